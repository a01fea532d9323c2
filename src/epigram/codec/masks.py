"""Bits that say which positions or units are left."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epigram.codec.adaptive import kt_bits
from epigram.codec.coder import Coder, Flag
from epigram.codec.limits import Limits
from epigram.codec.native import kernel, new
from epigram.codec.range_coder import code_flag

BoolArray = NDArray[np.bool_]
_MAX_PERIOD = 64


class MaskBudget:
    """How many bits all masks of a file have, of tensors, units and positions."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._used = limits, 0

    def reserve(self, bits: int) -> int:
        """Count bits before they are read; returns them.

        Raises:
            FormatError: they are too many.
        """
        self._used = self._limits.check("mask bits", self._used + bits, "max_mask_bits")
        return bits


def period_flags() -> list[Flag]:
    """What masks of one kind share."""
    return [Flag() for _ in range(6)]


def code_mask(coder: Coder, flags: list[Flag], mask: BoolArray | None, size: int) -> BoolArray:
    """``size`` bits, each under a flag chosen by its neighbours: the bit before, and one a period before.

    ``flags`` tell the period; ``size`` has been reserved.
    """
    period = coder.natural(flags, None if mask is None else _best_period(mask))
    bits = coder.kit.zeros(size) if mask is None else coder.kit.array(mask)
    coder.run(coder.kit.code_mask_bits, size, period, bits, size)
    return np.asarray(bits, dtype=np.bool_)


def mask_bits(mask: BoolArray) -> float:
    """About what a mask costs, in bits."""
    return _cost(mask, _best_period(mask))


@kernel
def code_mask_bits(s: Any, data: Any, bits: Any, period: int, mask: Any, size: int) -> None:
    """The bits themselves; what is beyond the start is 1."""
    zeros, ones, before = new(4), new(4), 1
    for place in range(size):
        above = mask[place - period] if 0 < period <= place else 1
        which = 2 * before + above
        before = code_flag(s, data, bits, zeros[which], ones[which], mask[place])
        if before < 0:
            return
        zeros[which] += 1 - before
        ones[which] += before
        mask[place] = before


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
