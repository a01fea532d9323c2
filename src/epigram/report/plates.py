"""What a page is made of: plates (still pictures), movies, and sentences for what is not there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from matplotlib.figure import Figure

from epigram.report.style import Theme


@dataclass(frozen=True)
class Plate:
    """A picture that can be drawn in any theme; ``stem`` names its file."""

    stem: str
    title: str
    caption: str
    alt: str
    draw: Callable[[Theme], Figure]


@dataclass(frozen=True)
class Movie:
    """A GIF and the still that stands in for it where motion is not wanted."""

    stem: str
    title: str
    caption: str
    alt: str
    gif: bytes
    still: bytes
    size: tuple[int, int]


@dataclass(frozen=True)
class Absent:
    """A plain sentence in the place of a picture for which the run left no data."""

    title: str
    sentence: str


Exhibit: TypeAlias = Plate | Movie | Absent
