"""epigram: train a PyTorch network until it says it in the fewest bits.

The public names are imported when they are first asked for, so that ``import epigram`` costs nothing
and a file can be inspected where torch is not installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from epigram.artifact import load, save
    from epigram.convert import bayesianize
    from epigram.errors import EpigramError
    from epigram.layers import predict
    from epigram.objective import ELBO
    from epigram.pipeline import CompressSettings, compress
    from epigram.records import Floor

__version__ = "0.1.0"

_HOMES = {
    "compress": "epigram.pipeline",
    "CompressSettings": "epigram.pipeline",
    "load": "epigram.artifact",
    "save": "epigram.artifact",
    "bayesianize": "epigram.convert",
    "ELBO": "epigram.objective",
    "predict": "epigram.layers",
    "Floor": "epigram.records",
    "EpigramError": "epigram.errors",
}

_ROOMS = ("search",)
"""Rooms that are reached as attributes: ``epigram.search.Study``."""

__all__ = [
    "compress",
    "CompressSettings",
    "load",
    "save",
    "bayesianize",
    "ELBO",
    "predict",
    "Floor",
    "EpigramError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"epigram.{name}")
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'epigram' has no attribute {name!r}") from None
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})
