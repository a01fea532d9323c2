"""Probabilities and their log-odds as integers: the same on every machine, since nothing is rounded by a libm.

Log-odds are in 256ths of a nat, probabilities in 65536ths. Everything follows from one literal,
2**30 * exp(-1/256), by multiplication and division of integers.
"""

from __future__ import annotations

from bisect import bisect_left

CERTAIN = 2816
"""The largest log-odds: 11 nats."""
_DECAY = 1069555701
_BITS = 30


def _decays() -> list[int]:
    out = [1 << _BITS]
    for _ in range(CERTAIN):
        out.append(out[-1] * _DECAY >> _BITS)
    return out


_EXP = _decays()
_RISING = [(_e << 16) // ((1 << _BITS) + _e) for _e in reversed(_EXP)]
_SQUASH = [*_RISING, *((1 << _BITS + 16) // ((1 << _BITS) + _e) for _e in _EXP[1:])]
STRETCH = [bisect_left(_SQUASH, 16 * _p + 8) - CERTAIN for _p in range(4096)]
"""Log-odds of (p + 1/2) / 4096."""


def squash(logit: int) -> int:
    """The probability of log-odds, 16..65520."""
    if logit >= CERTAIN:
        return 65520
    if logit <= -CERTAIN:
        return 16
    p = _SQUASH[logit + CERTAIN]
    return 16 if p < 16 else min(p, 65520)


def decayed(exponent: int) -> int:
    """4096 * exp(-exponent / 256), at most 4095."""
    return min(4095, _EXP[min(exponent, CERTAIN)] >> _BITS - 12)
