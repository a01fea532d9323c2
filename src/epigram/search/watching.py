"""What a study concludes while its trials run: forecasts, stops, alarms, and the best so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from epigram.search.alarm import alarms
from epigram.search.calibration import calibration, judged
from epigram.search.forecasting import Forecasting, Looked, as_event, rung
from epigram.search.history import History, Trial
from epigram.search.identity import derived_seed
from epigram.search.objective import Objective
from epigram.search.settings import StudySettings
from epigram.search.stopping import Hyperband, would_have_stopped_the_best

if TYPE_CHECKING:
    from epigram.search.study import Study

_HARM_EVERY = 10


def feasible(history: History, objective: Objective) -> list[Trial]:
    """Finished trials of the search that meet the floor with the margin, the smallest first."""
    return [trial for trial in _by_size(history) if _meets(trial, objective)]


def best(history: History, objective: Objective) -> Trial | None:
    """The first of these; looked for once after each outcome."""
    return _best(history, objective, history.outcomes)


@lru_cache(maxsize=8)
def _best(history: History, objective: Objective, outcomes: int) -> Trial | None:
    del outcomes
    return next((trial for trial in _by_size(history) if _meets(trial, objective)), None)


def _by_size(history: History) -> list[Trial]:
    return sorted(history.finished.values(), key=lambda trial: (_size(trial), trial.number))


def nearest(history: History, objective: Objective) -> Trial | None:
    """The finished trial that falls short of the floor by least; the smallest of equal ones."""

    def short(trial: Trial) -> tuple[float, float, int]:
        assert trial.outcome is not None
        assert trial.outcome.metric is not None
        fallen = objective.order(
            trial.outcome.metric, _size(trial), examples=trial.outcome.examples
        )
        return (*fallen, trial.number)

    return min(history.finished.values(), key=short, default=None)


def audits(settings: StudySettings, number: int) -> bool:
    """Is the trial of that number run to its end whatever the rule says? Decided before it begins."""
    if settings.stopping != "forecast":
        return False
    share = derived_seed(settings.seed, "audit", number) / 2**31
    return share < settings.rule.audit_share


def verdict(study: Study, trial: Trial, forecasting: Forecasting | None) -> str | None:
    """Look at a trial that has come a step further; why it should be stopped, or None.

    A forecast is in the ledger before anybody acts on it.
    """
    if trial.phase != "search" or trial.stop_reason is not None:
        return None
    if study.settings.stopping == "hyperband":
        if Hyperband().stops(trial, study.history.search(), study.objective):
            return "among the worse of its rung"
        return None
    if forecasting is None:
        return None
    reason = None
    for look in forecasting.due(trial):
        looked = forecasting.look(trial, study.history, look)
        if looked is not None:
            reason = _look(study, trial, looked) or reason
    return reason


def _look(study: Study, trial: Trial, looked: Looked) -> str | None:
    settings, history = study.settings, study.history
    smallest = best(history, study.objective)
    size = None if smallest is None else _size(smallest)
    finished = len(history.finished)
    rule = settings.rule
    hopeless = rule.hopeless(looked, study.objective, size, finished=finished)
    useful = rule.usefulness(looked, study.objective, size)
    strict = rule.threshold / 2 ** sum(alarm["kind"] == "harm" for alarm in history.alarms)
    hopeless = hopeless and useful < strict
    study.record(
        "forecast",
        {
            **as_event(trial, looked, study.objective),
            "p_useful": round(useful, 6),
            **({"would_stop": True} if hopeless else {}),
        },
    )
    off = settings.stopping != "forecast" or trial.audit or disabled(history)
    if off or not hopeless:
        return None
    return f"useful with a probability of {useful:.3f} after {looked.look:.0%}"


def disabled(history: History) -> bool:
    """Has an alarm switched stopping off?"""
    return any(alarm["kind"] in ("leak", "overconfident") for alarm in history.alarms)


def new_alarms(study: Study) -> Iterator[Mapping[str, Any]]:
    """What is wrong with the forecasts and was not known to be; asked at every rung of finished trials."""
    history, objective = study.history, study.objective
    finished = len(history.finished)
    if not any(trial.forecasts for trial in history.search()):
        return
    if finished == rung(finished):
        yield from _untrue(study)
    if finished % _HARM_EVERY:
        return
    harmed = would_have_stopped_the_best(history, objective)
    told = {run for alarm in history.alarms for run in alarm.get("runs", ())}
    if set(harmed) - told:
        yield {
            "kind": "harm",
            "runs": harmed,
            "sentence": f"the rule would have stopped {', '.join(harmed)}, one of the three best; "
            "its threshold is halved",
        }


def _untrue(study: Study) -> Iterator[Mapping[str, Any]]:
    """New alarms of a leak, or of more confidence than is kept."""
    history, objective = study.history, study.objective
    known = {(alarm["kind"], alarm.get("look")) for alarm in history.alarms}
    share = study.settings.rule.audit_share if study.settings.stopping == "forecast" else 0.0
    rows = judged(history, objective, audit_share=share)
    for alarm in alarms(calibration(rows, objective)):
        if (alarm.kind, alarm.look) not in known:
            yield {"kind": alarm.kind, "look": alarm.look, "sentence": alarm.sentence}


def _meets(trial: Trial, objective: Objective) -> bool:
    outcome = trial.outcome
    assert outcome is not None
    assert outcome.metric is not None
    return objective.feasible(outcome.metric, examples=outcome.examples)


def _size(trial: Trial) -> float:
    assert trial.outcome is not None
    assert trial.outcome.size is not None
    return trial.outcome.size
