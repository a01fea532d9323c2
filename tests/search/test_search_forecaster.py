"""Forecasts never see what comes after them; a forecaster that does is caught."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from tests.search import toy
from tests.search.toy_curves import OBJECTIVE, curves, honest, prequential, shuffled

from epigram.errors import LeakError
from epigram.search import features
from epigram.search.alarm import alarms
from epigram.search.calibration import (
    LookReport,
    calibration,
    clopper_pearson,
    correlation,
    crps,
    pit,
)
from epigram.search.curves import FinishedCurve, Prefix, Step
from epigram.search.forecaster import LEAST_CURVES, Forecast, Forecaster, hash_of
from epigram.search.forecasting import LEVELS
from epigram.search.forest import Forest, few_rows


@pytest.fixture(scope="module")
def report() -> LookReport:
    (found,) = calibration(prequential(curves(), 0.25), OBJECTIVE)
    return found


def test_forecasts_beat_the_last_value_and_keep_what_they_promise(report: LookReport) -> None:
    assert report.n == 40
    assert report.mae < 0.75 * report.mae_last
    assert report.mae_log_size < 0.75 * report.mae_last_log_size
    assert report.correlation > report.correlation_last
    assert report.coverage[0.9][2] > 0.9
    assert report.coverage[0.9][0] >= 0.75
    assert report.brier < report.brier_base
    assert sum(report.pit) == report.n
    assert alarms([report]) == []


def test_a_prefix_holds_nothing_later() -> None:
    steps = tuple(Step(at, 0.1, 10.0, False) for at in (1, 2, 3))
    with pytest.raises(LeakError, match=r"a prefix up to step 2 got step 3"):
        Prefix("a", "a", (0.0,), steps, 2, 10)
    prefix = curves()[0].prefix(0.25)
    assert prefix is not None
    assert max(step.at for step in prefix.steps) == prefix.upto == 5


def test_it_cannot_be_asked_about_what_it_was_fitted_on() -> None:
    known = curves()[:15]
    fitted = Forecaster.fit(known, fraction=0.5)
    assert fitted is not None
    prefix = known[3].prefix(0.5)
    assert prefix is not None
    with pytest.raises(LeakError, match=r"run run-003 is among the 15 trials"):
        fitted.predict(prefix)
    assert fitted.train_hash == hash_of(frozenset(c.run_id for c in known))


def test_it_is_not_fitted_on_too_few() -> None:
    assert Forecaster.fit(curves()[: LEAST_CURVES - 1], fraction=0.5) is None


def test_poisoned_futures_change_no_forecast() -> None:
    """Whatever the target does after the look, the forecast is the same to the byte."""
    known, target = curves()[:20], curves()[20]
    garbage = tuple(
        step if step.at <= 10 else replace(step, error=0.99, size=1e12) for step in target.steps
    )
    poisoned = replace(target, steps=garbage, final_error=0.9, final_size=1e12)
    forecasts = []
    for one in (target, poisoned):
        prefix = one.prefix(0.5)
        assert prefix is not None
        forecasts.append(honest(known, one, prefix))
    assert forecasts[0].errors.tobytes() == forecasts[1].errors.tobytes()
    assert forecasts[0].sizes.tobytes() == forecasts[1].sizes.tobytes()
    assert forecasts[0].train_hash == forecasts[1].train_hash


def leaky(known: Sequence[FinishedCurve], target: FinishedCurve, prefix: Prefix) -> Forecast:
    """The old notebook's mistake: fitted anew with the very trial that it forecasts."""
    from sklearn.ensemble import ExtraTreesRegressor

    every = [*known, target]
    rows = [features.row(one.prefix(prefix.fraction), share=True) for one in every]
    ends = [[one.final_error, one.final_size] for one in every]
    fitted = ExtraTreesRegressor(n_estimators=10, random_state=0).fit(rows, ends)
    error, size = fitted.predict([features.row(prefix, share=True)])[0]
    last = prefix.steps[-1]
    return Forecast(
        np.full(5, error), np.full(5, size), last.error, float(last.size or 1), "leak", "", 0
    )


def test_the_notebooks_symptom_is_reproduced_and_caught() -> None:
    (report,) = calibration(prequential(curves(), 0.25, predict=leaky, first=45), OBJECTIVE)
    assert report.correlation > 0.9999
    (alarm,) = [one for one in alarms([report]) if one.kind == "leak"]
    assert "Leak suspected" in alarm.sentence
    assert "\n" not in alarm.sentence


def test_where_nothing_changes_any_more_perfection_is_no_leak(report: LookReport) -> None:
    calm = replace(report, correlation=1.0, mae=0.0, correlation_last=1.0, mae_last=0.0)
    assert alarms([calm]) == []
    assert alarms([replace(calm, mae_last=0.1)])[0].kind == "leak"
    assert alarms([replace(calm, mae_last=0.1, look=0.75)]) == []


def test_too_narrow_forecasts_raise_an_alarm(report: LookReport) -> None:
    narrow = replace(report, coverage={**report.coverage, 0.9: (0.5, 0.4, 0.7)})
    assert [one.kind for one in alarms([narrow])] == ["overconfident"]


def test_shuffled_ends_are_not_forecast_but_the_intervals_still_hold() -> None:
    (report,) = calibration(prequential(shuffled(curves()), 0.25), OBJECTIVE)
    assert abs(report.correlation) < 0.5
    assert report.coverage[0.9][2] > 0.9
    assert report.coverage[0.9][0] >= 0.75


def test_replicates_are_not_tested_on_each_other() -> None:
    generator = np.random.default_rng(0)
    rows = np.repeat(generator.normal(size=(30, 3)), 2, axis=0)
    ends = np.repeat(generator.normal(size=(30, 2)), 2, axis=0)  # noise, the same in a pair
    pairs = [str(at // 2) for at in range(60)]
    apart = Forest(rows, ends, pairs, seed=0).residuals
    together = Forest(rows, ends, [str(at) for at in range(60)], seed=0).residuals
    assert np.std(together) < 0.9 * np.std(apart)


def test_few_residuals_are_widened() -> None:
    assert few_rows(12) > few_rows(40) > few_rows(400) > 1.0
    assert few_rows(10_000) == pytest.approx(1.0, abs=0.001)


def test_the_scores_are_those_of_the_textbooks() -> None:
    from scipy.stats import norm

    quantiles = [float(q) for q in norm.ppf(LEVELS)]
    assert pit(0.0, quantiles) == pytest.approx(0.5)
    assert pit(-9.0, quantiles) < LEVELS[0]
    exact = 2 * norm.pdf(0) - 1 / np.sqrt(np.pi)  # CRPS of a standard normal at its mean
    assert crps(0.0, quantiles) == pytest.approx(exact, rel=0.06)
    assert crps(3.0, [1.0] * len(LEVELS)) == pytest.approx(2.0)
    assert np.isnan(correlation(np.ones(5), np.arange(5.0)))
    low, high = clopper_pearson(18, 20)
    assert (low, high) == pytest.approx((0.683, 0.9877), abs=1e-3)


def test_features_are_finite_and_know_the_warm_up() -> None:
    steps = [Step(at, 0.3, None, at <= 3) for at in range(1, 7)]
    rows = [
        features.row(Prefix("a", "a", (0.5,), tuple(steps[:upto]), upto, 12), share=True)
        for upto in (1, 3, 6)
    ]
    assert np.isfinite(rows).all()
    assert len({len(row) for row in rows}) == 1
    assert [row[9] for row in rows] == [0.0, 0.0, 1.0]  # is the warm-up over?
    still = Prefix("a", "a", (0.5,), (Step(1, 0.0, 5.0, False), Step(2, 1.0, 5.0, False)), 2, 4)
    assert np.isfinite(features.row(still, share=True)).all()
    assert np.isfinite(features.row(still, share=False)).all()


def test_the_toy_is_what_it_says() -> None:
    assert {step.at for step in curves()[0].steps} == set(range(1, toy.STEPS + 1))
