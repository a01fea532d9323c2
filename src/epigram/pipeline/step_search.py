"""Which step a file of a checkpoint takes: a search over octaves, and finer steps where it was not enough."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

FINEST, COARSEST = -30.0, 6.0
"""Octaves of the step, from the weights' root mean square."""

_RESOLUTION = 1 / 32
_MOST_TRIALS = 12

T = TypeVar("T")


@dataclass(frozen=True)
class Found(Generic[T]):
    """What a search ends with.

    Attributes:
        octave: of the step.
        made: at that octave.
        met: was it good enough?
    """

    octave: float
    made: T
    met: bool


def search(
    at: Callable[[float], T],
    ok: Callable[[T], bool],
    *,
    coarser_is_ok: bool,
    first: float,
    coarser_by: Callable[[T], float] | None = None,
) -> Found[T]:
    """From a guess outwards, then bisection over octaves; the last that was ok, or the end of the octaves.

    ``coarser_by`` says how many octaves coarser the answer is likely to be (a bit a weight and octave, an error
    in proportion to the step); it leads there in two or three trials.
    """
    low, high = FINEST, COARSEST  # the answer lies between
    best: Found[T] | None = None
    octave, stride = min(max(first, low), high), 0.25
    for _ in range(_MOST_TRIALS):
        made = at(octave)
        good = ok(made)
        if good:
            best = Found(octave, made, met=True)
        if good == coarser_is_ok:
            high = octave
        else:
            low = octave
        change = math.nan if coarser_by is None else coarser_by(made)
        if high - low <= _RESOLUTION or (good and abs(change) <= _RESOLUTION):
            break
        aim = octave + change + (0.5 if coarser_is_ok else -0.5) * _RESOLUTION
        if low < aim < high:
            octave = aim
        elif low > FINEST and high < COARSEST:
            octave = (low + high) / 2
        else:
            octave = max(FINEST, high - stride) if high < COARSEST else min(COARSEST, low + stride)
            stride *= 2
    if best is not None:
        return best
    end = COARSEST if coarser_is_ok else FINEST
    made = at(end)
    return Found(end, made, met=ok(made))


def climb(start: Found[T], at: Callable[[float], T], margin: Callable[[T], float]) -> Found[T]:
    """The first of ever finer steps whose margin is not negative, or the one whose margin is largest.

    Args:
        start: where to begin.
        at: makes what belongs to an octave.
        margin: how far it is on the good side; a NaN is further from it than anything.
    """
    nearest, largest = start, -math.inf
    for octave in finer(start.octave):
        made = start.made if octave == start.octave else at(octave)
        reached = margin(made)
        if reached >= 0.0:
            return Found(octave, made, met=True)
        if reached > largest:
            nearest, largest = Found(octave, made, met=False), reached
    return replace(nearest, met=False)


def finer(octave: float) -> Iterator[float]:
    """This octave and finer ones: strides that double, and the finest in the end.

    Example:
        >>> [32 * (0.0 - o) for o in finer(0.0)]
        [0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 63.0, 127.0, 255.0, 511.0, 960.0]
    """
    stride, at = _RESOLUTION, octave
    while at > FINEST:
        yield at
        at, stride = at - stride, 2 * stride
    yield FINEST
