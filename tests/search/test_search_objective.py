"""The floor as a constraint: its sign, its noise, and that it is finite whatever comes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epigram.errors import ConfigError
from epigram.records import Floor
from epigram.search import Objective

FLOORS = ["accuracy>=0.98", "error<=0.02", "nll<=0.1", "psnr>=30", "loss<=0", "score>=-1"]


@pytest.mark.parametrize("text", FLOORS)
@given(metric=st.floats(allow_nan=True, allow_infinity=True))
def test_the_violation_is_finite_and_has_the_sign_of_the_floor(text: str, metric: float) -> None:
    wanted = Objective(Floor.parse(text), margin=0.0)
    violation = wanted.violation(metric)
    assert math.isfinite(violation)
    gap = wanted.floor.margin(metric) if math.isfinite(metric) else 0.0
    if abs(gap) > 1e-9:
        assert (violation <= 0) == (gap > 0)
    if math.isnan(metric):
        assert violation > 0


def test_the_constraint_is_log_error_over_limit() -> None:
    wanted = Objective(Floor.parse("accuracy>=0.98"), margin=0.0)
    assert wanted.violation(0.96) == pytest.approx(math.log(2))
    assert Objective(Floor.parse("nll<=0.1"), margin=0.0).violation(0.05) == pytest.approx(
        -math.log(2)
    )


def test_the_margin_counts_standard_errors_of_the_examples() -> None:
    wanted = Objective(Floor.parse("accuracy>=0.98"), margin=1.0)
    se = math.sqrt(0.019 * 0.981 / 2500)
    assert wanted.standard_error(0.981, 2500) == pytest.approx(se)
    assert wanted.feasible(0.981)
    assert not wanted.feasible(0.981, examples=2500)
    assert wanted.feasible(0.981, examples=250_000)
    assert wanted.standard_error(1.0, 100) > 0  # a perfect score is not certain either
    assert Objective(Floor.parse("nll<=0.1")).standard_error(0.05, 100) == 0.0


def test_feasible_runs_are_ordered_by_size_the_others_by_what_they_lack() -> None:
    wanted = Objective(Floor.parse("accuracy>=0.98"), margin=0.0)
    runs = [(0.97, 1.0), (0.99, 30.0), (0.985, 20.0), (0.96, 0.1)]
    assert sorted(runs, key=lambda run: wanted.order(*run)) == [
        (0.985, 20.0),
        (0.99, 30.0),
        (0.97, 1.0),
        (0.96, 0.1),
    ]
    with pytest.raises(ConfigError, match="margin"):
        Objective(Floor.parse("accuracy>=0.98"), margin=-1.0)


@given(st.floats(0.001, 0.999))
def test_error_and_metric_are_inverse(error: float) -> None:
    for text in FLOORS:
        wanted = Objective(Floor.parse(text))
        assert wanted.error(wanted.metric(error)) == pytest.approx(error)
