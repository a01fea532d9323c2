"""The line of the user's code that an error went through."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

_INSTALLED = str(Path(torch.__file__).parent.parent)
_OURS = tuple(
    str(path)
    for path in (Path(__file__).parent, Path(torch.__file__).parent, Path(_INSTALLED, "sympy"))
)
_STANDARD = sysconfig.get_paths()["stdlib"]


def user_frame(error: BaseException) -> traceback.FrameSummary | None:
    """The innermost frame of a network's own code that an error, or what caused it, went through.

    Code of the user comes before that of installed libraries; None where there is neither.
    """
    library = None
    for cause in _causes(error):
        frames = [f for f in traceback.extract_tb(cause.__traceback__) if is_of_network(f.filename)]
        own = [frame for frame in frames if not frame.filename.startswith(_INSTALLED)]
        if own:
            return own[-1]
        library = library or (frames[-1] if frames else None)
    return library


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, what it was raised from, and so on."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def is_of_network(name: str) -> bool:
    """Is a file of code neither ours nor of PyTorch, of the standard library, or made on the spot?"""
    standard = name.startswith(_STANDARD) and not name.startswith(_INSTALLED)
    return not (name.startswith((*_OURS, "<")) or standard)
