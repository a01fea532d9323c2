"""The paper's counts, weight by weight, as the formulas say; slow and obvious.

Bits of a weight's significand: how many of the unit round-offs 0.5 · 2^(1 - t), t = 1 ... 23, are larger
than twice its variance; per layer the mean over its weights, rounded up. Bits of the exponent:
⌈log2(log2(m + 1) + 1)⌉ for the largest magnitude m of the network. And one bit for the sign.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def significand_bits(variances: Sequence[float]) -> int:
    total = 0
    for variance in variances:
        for t in range(1, 24):
            if 2 * variance < 0.5 * 2 ** (1 - t):
                total += 1
    return math.ceil(total / len(variances))


def exponent_bits(weights: Sequence[float]) -> int:
    return math.ceil(math.log2(math.log2(max(abs(w) for w in weights) + 1) + 1))


def factors(
    weights: Mapping[str, Sequence[float]],
    variances: Mapping[str, Sequence[float]],
    weights_before: int,
) -> tuple[float, float]:
    """Architecture, and with uncertainty."""
    left = sum(len(w) for w in weights.values())
    exponent = exponent_bits([w for layer in weights.values() for w in layer])
    bits = 0
    for name, layer in weights.items():
        bits += len(layer) * (1 + exponent + significand_bits(variances[name]))
    return weights_before / left, 32 * weights_before / bits
