"""The ladder of prices: the coarsest rung that holds on control and is confirmed by validation."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from epigram.pipeline.files import Rung, climb
from epigram.records import FileContents, Floor


def climbed(
    control: list[float], validation: list[float]
) -> tuple[int, bool, list[int], list[int]]:
    """Rung chosen, was it met, and which rungs were encoded and which judged."""
    tried: list[int] = []
    judged: list[int] = []

    def rung(place: int) -> Rung:
        tried.append(place)
        return Rung(1.0, FileContents(()), place, control[place])

    def judge(rung: Rung) -> Rung:
        judged.append(rung.predicted_bytes)
        return replace(rung, validation=validation[rung.predicted_bytes])

    chosen, met = climb(Floor("accuracy", 0.9), len(control), rung, judge)
    return chosen.predicted_bytes, met, tried, judged


@pytest.mark.parametrize("first", range(8))
def test_bisection_finds_the_coarsest_rung_that_holds(first: int) -> None:
    control = [0.5 + 0.3 * (k / 8) if k < first else 0.95 for k in range(8)]
    chosen, met, tried, judged = climbed(control, control)
    assert (chosen, met) == (first, True)
    assert len(tried) <= 4  # three bisections and the end
    assert len(tried) == len(set(tried))
    assert judged == [first]


def test_validation_has_the_last_word() -> None:
    control = [0.8, 0.91, 0.92, 0.93, 0.94, 0.95, 0.95, 0.95]
    validation = [0.8, 0.88, 0.89, 0.91, 0.94, 0.95, 0.95, 0.95]
    chosen, met, _, judged = climbed(control, validation)
    assert (chosen, met, judged) == (4, True, [1, 2, 4])


def test_the_finest_rung_is_judged_before_a_floor_is_given_up() -> None:
    control = [0.95] * 40
    validation = [0.5] * 39 + [0.92]
    chosen, met, _, judged = climbed(control, validation)
    assert (chosen, met) == (39, True)
    assert judged == [0, 1, 3, 7, 15, 31, 39]  # strides that double: validation is not searched


def test_where_nothing_holds_the_nearest_is_given() -> None:
    control = [0.8, 0.91, 0.92, 0.93, 0.94, 0.95, 0.95, 0.95]
    validation = [0.8, 0.85, 0.88, 0.87, 0.86, 0.99, 0.99, 0.85]
    chosen, met, _, judged = climbed(control, validation)
    assert (chosen, met, judged) == (2, False, [1, 2, 4, 7])


def test_where_control_never_holds_the_finest_is_judged() -> None:
    low = [0.1 * k for k in range(8)]
    assert climbed(low, low)[:2] == (7, False)


def test_a_single_price_is_a_ladder_too() -> None:
    assert climbed([0.95], [0.95])[:2] == (0, True)


def test_a_nan_is_never_the_best() -> None:
    assert climbed([0.95, 0.95], [math.nan, 0.2])[:2] == (1, False)
