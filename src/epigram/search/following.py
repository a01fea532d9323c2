"""Attempts under way: their curves are taken into the ledger, and why one should stop is written down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from epigram.runner import Handle
from epigram.search.asked import Asked
from epigram.search.folder import MetricsTail
from epigram.search.history import Trial
from epigram.search.study import Study


@dataclass
class Live:
    """An attempt under way.

    Attributes:
        began: by the driver's clock.
        warned: a person was told of garbage in its curve.
        overdue: how much longer it took than it may; empty = it did not.
    """

    trial: Trial
    asked: Asked
    handle: Handle
    tail: MetricsTail
    began: float
    warned: bool = False
    overdue: str = ""


Running: TypeAlias = dict[tuple[str, int], Live]
"""By run and attempt."""


def take_points(study: Study, trial: Trial, tail: MetricsTail) -> str | None:
    """New points into the ledger; why the trial should be stopped, if it should."""
    known = {point.step for point in trial.points.get(trial.attempt, ())}
    why = None
    for point in tail.read():
        if point.step not in known:
            steps = tail.steps if trial.steps != tail.steps else None
            why = study.report_point(trial, point, steps=steps) or why
    return why


def note_stop(study: Study, trial: Trial, why: str | None) -> bool:
    """Write down that a trial shall stop, and why; is that new?"""
    if why is None or trial.stop_reason is not None:
        return False
    study.record("stop", {"run_id": trial.run_id, "why": why, "at": study.now()})
    return True
