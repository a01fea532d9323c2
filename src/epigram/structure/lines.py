"""The line of the user's code that an error went through, and what the error says."""

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
    for path in (
        Path(__file__).parent,
        Path(__file__).parent.parent / "convert",
        Path(torch.__file__).parent,
        *(Path(_INSTALLED, name) for name in ("sympy", "jaxtyping", "beartype")),
    )
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


def place(error: Exception) -> str:
    """Where in the network's own code: the line, its file and number; "" where that is not known."""
    frame = user_frame(error)
    if frame is None or not frame.line:
        return ""
    return f" at `{frame.line[:80]}` ({Path(frame.filename).name}, line {frame.lineno})"


def first_line(error: Exception) -> str:
    """What an error says: its class and the first line of its message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


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
