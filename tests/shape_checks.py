"""How annotations are checked while tests run: beartype, with two allowances.

An ``int`` is a ``float`` (PEP 484 says so, and whoever writes ``kl_weight=1`` expects it), and a
signature that names a protocol which cannot be checked at run time is left to mypy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintPep3119Exception

Checked = TypeVar("Checked", bound=Callable[..., object])

_checker = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(function: Checked) -> Checked:
    """``function``, checking what it is given and what it returns."""
    try:
        return _checker(function)
    except BeartypeDecorHintPep3119Exception:
        return function
