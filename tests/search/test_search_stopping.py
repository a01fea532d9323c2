"""Stopping: off by default, never in a warm-up, and wrong about late bloomers no oftener than it may."""

from __future__ import annotations

import numpy as np
import pytest
from tests.search.toy_curves import OBJECTIVE, curves

from epigram.errors import ConfigError
from epigram.search import History, Outcome, Point, StopRule, StudySettings, Trial
from epigram.search.curves import FinishedCurve, Prefix, Step
from epigram.search.forecaster import Forecast, Forecaster
from epigram.search.forecasting import Looked, rung
from epigram.search.stopping import Hyperband, imputed, would_have_stopped_the_best


def looked(error: float, size: float, *, warmup: bool = False) -> Looked:
    cloud = np.full(100, 1.0)
    forecast = Forecast(error * cloud, size * cloud, error, size, "m", "h", 20)
    prefix = Prefix("a", "a", (0.0,), (Step(5, error, size, warmup),), 5, 20)
    return Looked(0.25, prefix, forecast)


def test_stopping_is_off_unless_asked_for() -> None:
    assert StudySettings().stopping == "off"


@pytest.mark.parametrize(
    ("error", "size", "stops"),
    [(0.05, 1000.0, False), (0.05, 1350.0, False), (0.05, 1500.0, True), (0.2, 10.0, True)],
    ids=["good", "slack", "large", "infeasible"],
)
def test_hopeless_is_infeasible_or_much_larger_than_the_best(
    error: float, size: float, stops: bool
) -> None:
    rule = StopRule(slack=1.4)
    assert rule.hopeless(looked(error, size), OBJECTIVE, 1000.0, finished=12) is stops


def test_nothing_is_stopped_early_on_or_while_the_kl_comes_in() -> None:
    rule = StopRule()
    assert not rule.hopeless(looked(0.9, 1e9), OBJECTIVE, 1.0, finished=11)
    assert not rule.hopeless(looked(0.9, 1e9, warmup=True), OBJECTIVE, 1.0, finished=50)
    assert not rule.hopeless(looked(0.05, 1e9), OBJECTIVE, None, finished=50)


@pytest.mark.parametrize(
    "wrong",
    [{"threshold": 1.0}, {"slack": 0.9}, {"audit_share": 1.1}],
    ids=["threshold", "slack", "audit"],
)
def test_a_rule_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"StopRule"):
        StopRule(**wrong)


def bloomer(number: int, *, late: bool, told: bool = True) -> FinishedCurve:
    """A curve that is bad through its warm-up and good in the end, or bad throughout.

    ``told``: the curve says when it warms up, and the configuration which of the two it is.
    """
    generator = np.random.default_rng(number)
    end = (
        0.05 * np.exp(0.2 * generator.normal()) if late else 0.3 * np.exp(0.1 * generator.normal())
    )
    steps = tuple(
        Step(
            at,
            float(
                (0.4 if at <= 12 else end + 0.3 * 0.5 ** (at - 12))
                * np.exp(0.05 * generator.normal())
            ),
            5000.0,
            told and at <= 12,
        )
        for at in range(1, 21)
    )
    name = f"{'late' if late else 'bad'}-{number}"
    return FinishedCurve(
        name, name, (float(told and late), generator.random()), steps, 20, float(end), 4000.0
    )


@pytest.mark.parametrize("told", [True, False], ids=["told", "not-told"])
def test_late_bloomers_are_not_stopped_oftener_than_they_may(told: bool) -> None:
    """Error falls last: the KL warm-up takes 60 % of the trial, and all look hopeless until then."""
    known = [bloomer(at, late=at % 3 == 0, told=told) for at in range(30)]
    rule = StopRule()
    wrong, right = 0, 0
    for look in (0.25, 0.5, 0.75):
        fitted = Forecaster.fit(known, fraction=look)
        assert fitted is not None
        for number in range(100, 124):
            one = bloomer(number, late=number % 2 == 0, told=told)
            prefix = one.prefix(look)
            assert prefix is not None
            view = Looked(look, prefix, fitted.predict(prefix))
            hopeless = rule.hopeless(view, OBJECTIVE, 4000.0, finished=30)
            late = one.run_id.startswith("late")
            wrong, right = wrong + (hopeless and late), right + (hopeless and not late)
    assert wrong == 0
    assert right > 0


def test_stored_curves_show_that_the_best_would_not_have_been_stopped() -> None:
    """The harm check on curves that were never stopped, each seen by a forecaster of those before it."""
    found = curves()
    rule = StopRule()
    stopped = []
    for at in range(20, len(found)):
        best = min(
            (c.final_size for c in found[:at] if c.final_error <= OBJECTIVE.limit), default=None
        )
        prefix = found[at].prefix(0.5)
        if at == 20 or rung(at) == at:
            fitted = Forecaster.fit(found[:at], fraction=0.5)
        assert prefix is not None
        assert fitted is not None
        view = Looked(0.5, prefix, fitted.predict(prefix))
        if rule.hopeless(view, OBJECTIVE, best, finished=at):
            stopped.append(found[at])
    feasible = sorted(
        (c for c in found if c.final_error <= OBJECTIVE.limit), key=lambda c: c.final_size
    )
    assert len(stopped) >= 5
    assert not {c.run_id for c in feasible[:3]} & {c.run_id for c in stopped}


def test_a_rule_that_would_have_stopped_one_of_the_best_is_told_so() -> None:
    history = History()
    for number, size in enumerate((10.0, 20.0, 30.0, 40.0)):
        name = f"run-{number}"
        outcome = Outcome("finished", 0.99, size)
        history.trials[name] = Trial(
            number, name, {}, 0, would_stop=number in (1, 3), outcome=outcome
        )
    assert would_have_stopped_the_best(history, OBJECTIVE) == ["run-1"]


def test_what_is_imputed_are_the_medians() -> None:
    errors = [x / 100 for x in range(21)]
    metric, size = imputed({"errors": errors, "sizes": [10.0 * x for x in range(21)]}, OBJECTIVE)
    assert metric == pytest.approx(0.9)
    assert size == 100.0


def racer(number: int, error: float, *, step: int, steps: int = 27) -> Trial:
    points = {1: [Point(at, 1 - error) for at in range(1, step + 1)]}
    return Trial(number, f"run-{number}", {}, 0, steps=steps, attempt=1, points=points)


def test_hyperband_keeps_the_best_third_of_each_rung() -> None:
    band = Hyperband()
    assert band.brackets(27) == 4
    assert [band.rungs(number, 27) for number in range(4)] == [[1, 3, 9], [3, 9], [9], []]
    racers = [racer(4 * k, 0.1 * (k + 1), step=3) for k in range(6)]
    stops = [band.stops(one, racers, OBJECTIVE) for one in racers]
    assert stops == [False, False, True, True, True, True]
    assert not band.stops(racer(3, 0.9, step=9), racers, OBJECTIVE)
    assert not band.stops(racer(0, 0.9, step=2), racers, OBJECTIVE)
