"""Finished curves of the toy study, and forecasts of each from those before it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from tests.search import toy

from epigram.records import Floor
from epigram.search import Objective
from epigram.search.calibration import Judged
from epigram.search.curves import FinishedCurve, Prefix, Step
from epigram.search.forecaster import Forecast, Forecaster
from epigram.search.forecasting import LEVELS

OBJECTIVE = Objective(Floor.parse(toy.FLOOR))


@functools.cache
def curves(count: int = 60) -> tuple[FinishedCurve, ...]:
    generator = np.random.default_rng(1)
    found = []
    for number in range(count):
        values = toy.SPACE.random(generator)
        error, size = toy.noisy(values, 0)
        steps = tuple(
            Step(line["step"], 1 - line["accuracy"], line["size_bytes"], line["warmup"])
            for line in toy.curve(values, 0)
        )
        encoded = tuple(toy.SPACE.encode(values))
        name = f"run-{number:03d}"
        found.append(FinishedCurve(name, name, encoded, steps, toy.STEPS, error, size))
    return tuple(found)


def shuffled(found: Sequence[FinishedCurve]) -> list[FinishedCurve]:
    """The same beginnings, each with the end of another."""
    order = np.random.default_rng(7).permutation(len(found))
    return [
        replace(one, final_error=found[other].final_error, final_size=found[other].final_size)
        for one, other in zip(found, order, strict=True)
    ]


Predict = Callable[[Sequence[FinishedCurve], FinishedCurve, Prefix], Forecast]


def honest(known: Sequence[FinishedCurve], target: FinishedCurve, prefix: Prefix) -> Forecast:
    fitted = Forecaster.fit(known, fraction=prefix.fraction)
    assert fitted is not None
    return fitted.predict(prefix)


def prequential(
    found: Sequence[FinishedCurve], look: float, *, predict: Predict = honest, first: int = 20
) -> list[Judged]:
    """Each trial forecast from those before it."""
    rows = []
    for at in range(first, len(found)):
        target = found[at]
        prefix = target.prefix(look)
        assert prefix is not None
        forecast = predict(found[:at], target, prefix)
        errors, sizes = forecast.quantiles(LEVELS)
        rows.append(
            Judged(
                target.run_id,
                look,
                tuple(errors),
                tuple(sizes),
                forecast.probability(OBJECTIVE.limit),
                forecast.last_error,
                forecast.last_size,
                target.final_error,
                target.final_size,
                OBJECTIVE.standard_error(1 - target.final_error, toy.EXAMPLES),
            )
        )
    return rows
