"""A page shows how the floor was held, and says budget where one was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from epigram.report import headline
from epigram.report.folder import Run
from epigram.report.steering import steering
from epigram.report.style import LIGHT


def a_run(result: dict, *, steered: bool = True) -> Run:
    lines = [
        {"stage": "bits", "epoch": n, "constraint": 3.0 - n, "multiplier": 1.1**n}
        if steered
        else {"stage": "bits", "epoch": n}
        for n in range(1, 6)
    ]
    return Run(folder=Path("nowhere"), history=tuple(lines), result=result)


def test_constraint_and_multiplier_are_drawn():
    plate = steering(a_run({}))
    assert plate is not None and "the floor was held" in plate.caption
    above, below = plate.draw(LIGHT).axes
    assert list(above.lines[0].get_ydata()) == [2.0, 1.0, 0.0, -1.0, -2.0]
    assert below.get_yscale() == "log"


def test_a_run_that_was_not_steered_has_no_such_picture():
    assert steering(a_run({}, steered=False)) is None


@pytest.mark.parametrize(("met", "word"), [(True, " met"), (False, "not met")])
def test_a_budget_is_called_one(met, word):
    result = {
        "floor": {"metric": "accuracy", "value": None, "validation_value": 0.99, "met": met},
        "budget": {"bytes": 1000, "met": met},
    }
    said = headline.headline(result, recipe="lenet-5/mnist", fallback="run")
    assert "budget accuracy in" in said and said.endswith(word)
    assert "the budget was held" in steering(a_run(result)).caption
