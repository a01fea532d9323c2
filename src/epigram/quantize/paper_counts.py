"""The two counts of the paper, for comparison only: nothing of this size is ever written.

*Architecture*: weights of the original over weights that are left. *With uncertainty*: the weights
that are left are moreover told with one sign bit, as many exponent bits as the largest weight of the
network asks for, and per layer as many significand bits as their posterior variances ask for: the
unit round-offs 2⁻ᵗ that exceed twice the variance are counted for each weight, averaged over the
layer and rounded up.

Sources: Louizos, Ullrich, Welling 2017, "Bayesian Compression for Deep Learning", §4 and appendix; the
counting rule is that of the code its second author published. Biases are left out on both sides,
as there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from epigram.quantize.rate_distortion import Floats

MOST_SIGNIFICAND_BITS = 23
FULL_PRECISION_BITS = 32


@dataclass(frozen=True)
class PaperCounts:
    """The paper's two factors (counts, not bytes) and the precisions behind the second."""

    architecture: float
    with_uncertainty: float
    weights_before: int
    weights_left: int
    significand_bits: Mapping[str, int]
    exponent_bits: int


def unit_round_off(significand_bits: int) -> float:
    """Largest relative error of rounding to so many bits: ½ · 2^(1 - t)."""
    return 0.5 * 2.0 ** (1 - significand_bits)


def significand_bits(variances: Floats) -> int:
    """Bits a layer's weights ask for: the mean count of unit round-offs above 2 · variance, ceiled.

    Args:
        variances: marginal posterior variances of the layer's weights, any shape, at least one.
    """
    doubled = 2.0 * np.asarray(variances, dtype=np.float64)
    counts = sum((doubled < unit_round_off(t)) for t in range(1, MOST_SIGNIFICAND_BITS + 1))
    return math.ceil(float(np.mean(counts)))


def exponent_bits(largest: float) -> int:
    """Bits of an exponent field that reaches the largest magnitude: ⌈log2(log2(m + 1) + 1)⌉."""
    return math.ceil(math.log2(math.log2(largest + 1.0) + 1.0))


def paper_counts(
    weights: Mapping[str, Floats], variances: Mapping[str, Floats], *, weights_before: int
) -> PaperCounts:
    """The two factors of a small network.

    Args:
        weights: posterior means of the weights that are left, per layer, flat or not.
        variances: their marginal posterior variances.
        weights_before: weights of the original, biases left out.
    """
    left = sum(w.size for w in weights.values())
    largest = max((float(np.abs(w).max()) for w in weights.values() if w.size), default=0.0)
    exponent = exponent_bits(largest)
    precision = {
        name: significand_bits(variances[name]) if w.size else 0 for name, w in weights.items()
    }
    bits = sum(w.size * (1 + exponent + precision[name]) for name, w in weights.items())
    return PaperCounts(
        architecture=weights_before / max(left, 1),
        with_uncertainty=weights_before * FULL_PRECISION_BITS / max(bits, 1),
        weights_before=weights_before,
        weights_left=left,
        significand_bits=precision,
        exponent_bits=exponent,
    )


def at_precision(weights: Floats, bits: int) -> Floats:
    """Weights rounded to a multiple of the unit round-off of ``bits``, as the paper's code does."""
    delta = unit_round_off(bits)
    rounded: Floats = (np.floor(weights / delta + 0.5) * delta).astype(np.float32)
    return rounded
