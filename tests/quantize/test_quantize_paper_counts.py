"""The paper's counts against a slow port of their formulas."""

from __future__ import annotations

import numpy as np
import pytest
from tests.reference import paper_counts_reference as reference

from epigram.quantize import at_precision, paper_counts
from epigram.quantize.paper_counts import exponent_bits, significand_bits, unit_round_off


@pytest.mark.parametrize("seed", range(8))
def test_the_factors_are_those_of_the_formulas(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = {"a": (7, 5), "b": (3, 2, 3, 3), "c": (1, 4)}
    weights = {n: rng.normal(0, 10.0 ** rng.uniform(-2, 1), s) for n, s in shapes.items()}
    variances = {n: 10.0 ** rng.uniform(-9, 0, s) for n, s in shapes.items()}
    found = paper_counts(weights, variances, weights_before=1000)
    flat = [{n: v.ravel().tolist() for n, v in d.items()} for d in (weights, variances)]
    architecture, uncertain = reference.factors(*flat, 1000)
    assert found.architecture == pytest.approx(architecture, rel=1e-12)
    assert found.with_uncertainty == pytest.approx(uncertain, rel=1e-12)
    assert found.weights_left == 35 + 54 + 4


@pytest.mark.parametrize(
    "variance", [0.0, 1e-30, 2.0**-25, 2.0**-24, 2.0**-12, 0.2, 0.25, 0.5, 1e9]
)
def test_bits_at_the_edges(variance: float) -> None:
    """Powers of two sit exactly on a round-off, where < and <= differ."""
    assert significand_bits(np.array([variance])) == reference.significand_bits([variance])


def test_bits_by_hand() -> None:
    assert significand_bits(np.array([0.0])) == 23
    assert significand_bits(np.array([1.0])) == 0
    assert significand_bits(np.array([2.0**-4])) == 2  # 1/8 < 1/2 and 1/4, not < 1/8
    assert significand_bits(np.array([2.0**-4, 1.0, 1.0])) == 1  # the mean is rounded up
    assert [exponent_bits(m) for m in (0.0, 0.5, 1.0, 1.5, 7.0, 8.0)] == [0, 1, 1, 2, 2, 3]


@pytest.mark.parametrize("bits", [1, 3, 8, 23])
def test_rounding_stays_within_half_a_round_off(bits: int) -> None:
    weights = np.random.default_rng(0).normal(0, 2, 500)
    rounded = at_precision(weights, bits)
    delta = unit_round_off(bits)
    assert delta == 2.0**-bits
    # float32 holds these multiples exactly up to 2^24 deltas, that is, for bits < 22 here
    slack = 0.0 if bits < 22 else 1e-6
    assert np.abs(rounded - weights).max() <= delta / 2 + slack
    steps = rounded.astype(np.float64) / delta
    assert np.abs(steps - np.rint(steps)).max() == 0


def test_a_network_without_weights_has_no_factor_to_divide_by() -> None:
    found = paper_counts({"a": np.zeros((0, 3))}, {"a": np.zeros((0, 3))}, weights_before=10)
    assert np.isfinite(found.architecture)
    assert np.isfinite(found.with_uncertainty)
