"""Bits that say which positions or units are left."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from epigram.codec.adaptive import kt_bits
from epigram.codec.coder import Coder, Flag
from epigram.codec.limits import Limits

BoolArray = NDArray[np.bool_]
_MAX_PERIOD = 64


class MaskStates:
    """What the masks of a file share."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._used = limits, 0
        self.period = [Flag() for _ in range(6)]

    def reserve(self, bits: int) -> None:
        """Count bits before they are read.

        Raises:
            FormatError: they are too many.
        """
        self._used = self._limits.check("mask bits", self._used + bits, "max_mask_bits")


def code_mask(coder: Coder, states: MaskStates, mask: BoolArray | None, size: int) -> BoolArray:
    """``size`` bits, each under a flag chosen by its neighbours: the bit before, and one a period before."""
    states.reserve(size)
    period = None if mask is None else _best_period(mask)
    period = coder.natural(states.period, period)
    return _code_bits(coder, period, mask, size)


def mask_bits(mask: BoolArray) -> float:
    """About what a mask costs, in bits."""
    return _cost(mask, _best_period(mask))


def _code_bits(coder: Coder, period: int, mask: BoolArray | None, size: int) -> BoolArray:
    flags = [Flag() for _ in range(4)]
    out = np.zeros(size, dtype=np.bool_)
    for place in range(size):
        before = bool(out[place - 1]) if place else True
        above = bool(out[place - period]) if period and place >= period else True
        given = None if mask is None else int(mask[place])
        out[place] = coder.flag(flags[2 * before + above], given)
    return out


def _best_period(mask: BoolArray) -> int:
    periods = (0, *(p for p in range(2, _MAX_PERIOD + 1) if len(mask) % p == 0))
    return min(periods, key=lambda period: _cost(mask, period))


def _cost(mask: BoolArray, period: int) -> float:
    before, above = np.ones_like(mask), np.ones_like(mask)
    before[1:] = mask[:-1]
    if period:
        above[period:] = mask[:-period]
    seen = np.bincount(4 * before + 2 * above + mask, minlength=8).tolist()
    bits = sum(kt_bits(zeros, ones) for zeros, ones in zip(seen[::2], seen[1::2], strict=True))
    return bits + 2.0 * math.log2(period + 1)
