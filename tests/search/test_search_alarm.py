"""Alarms in a running study: what they switch off stays off, and a rule that did harm is tightened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.search import toy

from epigram.search import StopRule, Study, ledger
from epigram.search.curves import FinishedCurve, Prefix
from epigram.search.forecaster import Forecast

Ends = Callable[[Prefix, tuple[float, float]], tuple[np.ndarray, np.ndarray]]


class Told:
    """A forecaster that somebody tells how the trial will end: the mistake, made on purpose."""

    def __init__(self, ends: Ends) -> None:
        self.ends = ends
        self.study: Study | None = None

    def __call__(self, known: Sequence[FinishedCurve], look: float) -> Told | None:
        return self if len(known) >= 3 else None

    def predict(self, prefix: Prefix) -> Forecast:
        assert self.study is not None
        trial = self.study.history.trials[prefix.run_id]
        errors, sizes = self.ends(prefix, toy.noisy(trial.values, trial.seed))
        last = prefix.steps[-1]
        return Forecast(errors, sizes, last.error, float(last.size or 1.0), "told", "none", 3)


def leak(prefix: Prefix, end: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Exactly what will come."""
    return np.full(99, end[0]), np.full(99, end[1])


def overconfident(prefix: Prefix, end: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Off by a third, this way or that, and quite sure of it."""
    chance = np.random.default_rng(list(prefix.run_id.encode()))
    return np.full(99, end[0] * np.exp(0.3 * chance.standard_normal())), np.full(99, end[1])


def run(where: Path, ends: Ends, trials: int, **settings: object) -> list[ledger.Event]:
    told = Told(ends)
    with toy.open_study(
        where, forecasts=True, stopping="forecast", fit=told, seed=1, **settings
    ) as study:
        told.study = study
        toy.drive(study, trials, slots=1)
    return list(ledger.read(where))


@pytest.mark.parametrize(
    ("ends", "kind"), [(leak, "leak"), (overconfident, "overconfident")], ids=["leak", "sure"]
)
def test_forecasts_too_good_or_too_sure_switch_stopping_off_for_good(
    ends: Ends, kind: str, tmp_path: Path
) -> None:
    rule = StopRule(least=3, audit_share=0.3)
    events = run(tmp_path, ends, 45, rule=rule)
    alarm = next(e for e in events if e.type == "alarm" and e.data["kind"] == kind)
    assert "stopping is switched off" in alarm.data["sentence"]
    assert kind == "leak" or not any(e.type == "alarm" and e.data["kind"] == "leak" for e in events)
    stops = [e.seq for e in events if e.type == "stop"]
    assert stops, "the rule stopped nothing before the alarm"
    assert max(stops) < alarm.seq
    hopeless = [e for e in events if e.type == "forecast" and e.data.get("would_stop")]
    assert any(e.seq > alarm.seq for e in hopeless), "nothing looked hopeless after the alarm"
    more = run(tmp_path, ends, 55, rule=rule)
    assert [e.seq for e in more if e.type == "stop"] == stops


def test_a_rule_that_would_have_stopped_the_best_has_its_threshold_halved(tmp_path: Path) -> None:
    def gloomy(prefix: Prefix, end: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
        """Useful with a probability of 0.5 / 34, below a threshold of 0.02 and above one of 0.01."""
        return np.linspace(0.0, 0.5, 33), np.full(33, 1e9)

    events = run(tmp_path, gloomy, 30, rule=StopRule(least=3, audit_share=1.0))
    alarm = next(e for e in events if e.type == "alarm")
    assert alarm.data["kind"] == "harm"
    hopeless = [e.seq for e in events if e.type == "forecast" and e.data.get("would_stop")]
    later = [e for e in events if e.type == "forecast" and e.seq > alarm.seq]
    assert hopeless
    assert max(hopeless) < alarm.seq
    assert later
    assert not [e for e in events if e.type == "stop"]
