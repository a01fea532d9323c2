"""What a forecaster may know: finished curves of other trials, and the beginning of this one.

The two are different types. A ``Prefix`` holds nothing later than its own step and refuses to be built
otherwise; only ``FinishedCurve`` has an end, and only a ``Prefix`` can be asked about.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from epigram.errors import LeakError
from epigram.search.history import Point, Trial
from epigram.search.objective import Objective
from epigram.search.space import Space


@dataclass(frozen=True)
class Step:
    """One step of a curve: finite figures only.

    Attributes:
        at: the step.
        error: what the floor bounds from above.
        size: what a file would take; None = not known yet.
        warmup: the complexity term was still being phased in.
    """

    at: int
    error: float
    size: float | None
    warmup: bool


@dataclass(frozen=True)
class Prefix:
    """A trial as far as it has come.

    Attributes:
        run_id: of the trial.
        design: what replicates of one configuration have in common.
        encoded: its configuration as figures.
        steps: its curve up to ``upto``, at least one step.
        upto: how far that is.
        total: how many steps it will take.

    Raises:
        LeakError: a step lies beyond ``upto``.
    """

    run_id: str
    design: str
    encoded: tuple[float, ...]
    steps: tuple[Step, ...]
    upto: int
    total: int

    def __post_init__(self) -> None:
        late = [step.at for step in self.steps if step.at > self.upto]
        if late:
            raise LeakError(
                f"run {self.run_id}: a prefix up to step {self.upto} got step {late[0]}; a forecast "
                "may not see what comes after it"
            )
        if not self.steps:
            raise LeakError(f"run {self.run_id}: a prefix needs at least one step")

    @property
    def fraction(self) -> float:
        """How far it has come, 0 to 1."""
        return min(1.0, self.upto / max(1, self.total))


@dataclass(frozen=True)
class FinishedCurve:
    """A trial that ran to its end: its curve, and what came of it."""

    run_id: str
    design: str
    encoded: tuple[float, ...]
    steps: tuple[Step, ...]
    total: int
    final_error: float
    final_size: float

    def prefix(self, fraction: float) -> Prefix | None:
        """The beginning of it, as it was seen then; None if there was nothing to see yet."""
        upto = look_step(fraction, self.total)
        seen = tuple(step for step in self.steps if step.at <= upto)
        if not seen:
            return None
        return Prefix(self.run_id, self.design, self.encoded, seen, upto, self.total)


def look_step(fraction: float, total: int) -> int:
    """The step at which one looks."""
    return max(1, math.floor(fraction * total + 1e-9))


def steps_of(points: Sequence[Point], objective: Objective) -> tuple[Step, ...]:
    """The points of a curve that have a metric."""
    return tuple(
        Step(p.step, objective.error(p.metric), p.size if p.size and p.size > 0 else None, p.warmup)
        for p in points
        if p.metric is not None
    )


def finished_curve(trial: Trial, objective: Objective, space: Space) -> FinishedCurve | None:
    """A trial's curve with its end; None if it was stopped, failed, or has no curve."""
    outcome = trial.outcome
    if outcome is None or not trial.finished or outcome.metric is None or not outcome.size:
        return None
    steps = steps_of(trial.curve(), objective)
    total = trial.steps or (steps[-1].at if steps else 0)
    if not steps or total < 2:
        return None
    return FinishedCurve(
        trial.run_id,
        trial.design,
        tuple(space.encode(trial.values)),
        steps,
        total,
        objective.error(outcome.metric),
        outcome.size,
    )


def prefix_of(trial: Trial, objective: Objective, space: Space, fraction: float) -> Prefix | None:
    """The beginning of a trial that is going on; None as long as it has not come that far."""
    if not trial.steps:
        return None
    upto = look_step(fraction, trial.steps)
    points = trial.curve()
    if not points or points[-1].step < upto:
        return None
    steps = steps_of([point for point in points if point.step <= upto], objective)
    if not steps:
        return None
    encoded = tuple(space.encode(trial.values))
    return Prefix(trial.run_id, trial.design, encoded, steps, upto, trial.steps)
