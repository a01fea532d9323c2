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


EXP = _decays()
"""2**30 * exp(-i / 256)."""
_RISING = [(_e << 16) // ((1 << _BITS) + _e) for _e in reversed(EXP)]
SQUASH = [*_RISING, *((1 << _BITS + 16) // ((1 << _BITS) + _e) for _e in EXP[1:])]
"""Probabilities of the log-odds from -CERTAIN on."""
STRETCH = [bisect_left(SQUASH, 16 * _p + 8) - CERTAIN for _p in range(4096)]
"""Log-odds of (p + 1/2) / 4096."""
CLAMPED = [max(16, min(_p, 65520)) for _p in SQUASH]
"""The same probabilities, none so near to certain that a mistake costs more than 12 bits."""
