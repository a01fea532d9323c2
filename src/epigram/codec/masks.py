"""Bits that say which positions or units are left."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from epigram.codec.coder import Coder, Flag, Writer

BoolArray = NDArray[np.bool_]
_MAX_PERIOD = 64


class MaskStates:
    """What the masks of a file share."""

    def __init__(self) -> None:
        self.period = [Flag() for _ in range(6)]


def code_mask(coder: Coder, states: MaskStates, mask: BoolArray | None, size: int) -> BoolArray:
    """``size`` bits, each under a flag chosen by its neighbours: the bit before, and one a period before."""
    period = None if mask is None else _best_period(mask)
    period = coder.natural(states.period, period)
    return _code_bits(coder, period, mask, size)


def mask_bits(mask: BoolArray) -> float:
    """About what a mask costs, in bits."""
    dry = Writer(dry=True)
    code_mask(dry, MaskStates(), mask, len(mask))
    return sum(dry.bits.values())


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
    costs = {}
    for period in (0, *(p for p in range(2, _MAX_PERIOD + 1) if len(mask) % p == 0)):
        dry = Writer(dry=True)
        dry.natural([Flag() for _ in range(6)], period)
        _code_bits(dry, period, mask, len(mask))
        costs[period] = sum(dry.bits.values())
    return min(costs, key=costs.__getitem__)
