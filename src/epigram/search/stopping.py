"""When a trial is not worth going on with. Off, unless an A/B at equal epochs shows a gain.

``StopRule`` asks the forecast whether the trial will be feasible and not much larger than the best so far.
``Hyperband`` compares raw errors at equal steps; it does not know that a larger error may be bought with a
smaller file, and is here for comparison.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from epigram.errors import ConfigError
from epigram.search.forecasting import Looked
from epigram.search.history import History, Trial
from epigram.search.objective import Objective

Stopping: TypeAlias = Literal["off", "forecast", "hyperband"]


@dataclass(frozen=True)
class StopRule:
    """Stop what is confidently hopeless.

    Args:
        threshold: the least probability of being useful, per look. Several looks add up their mistakes,
            so this is a share of what may be lost in all.
        slack: a trial is useful if it is feasible and at most so many times as large as the best.
        least: finished trials without which nothing is stopped.
        audit_share: so many of the trials are run to their end whatever the rule says.

    Raises:
        ConfigError: a value is out of range.
    """

    threshold: float = 0.02
    slack: float = 1.4
    least: int = 12
    audit_share: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold < 1.0:
            raise ConfigError(f"StopRule.threshold: got {self.threshold}, expected 0 to 1")
        if not self.slack >= 1.0:
            raise ConfigError(f"StopRule.slack: got {self.slack}, expected 1 or more")
        if not 0.0 <= self.audit_share <= 1.0:
            raise ConfigError(f"StopRule.audit_share: got {self.audit_share}, expected 0 to 1")

    def usefulness(self, looked: Looked, objective: Objective, best: float | None) -> float:
        """The probability that the trial will be feasible and not much larger than the best."""
        largest = math.inf if best is None else self.slack * best
        return looked.forecast.probability(objective.limit, largest)

    def hopeless(
        self, looked: Looked, objective: Objective, best: float | None, *, finished: int
    ) -> bool:
        """Should the trial be stopped? Never while its complexity term is still being phased in."""
        if finished < self.least or looked.prefix.steps[-1].warmup:
            return False
        return self.usefulness(looked, objective, best) < self.threshold


def imputed(forecast: Mapping[str, Any], objective: Objective) -> tuple[float, float]:
    """Metric and size that a stopped trial is told with: the medians of its last forecast."""
    middle = len(forecast["errors"]) // 2
    return objective.metric(forecast["errors"][middle]), forecast["sizes"][middle]


def would_have_stopped_the_best(
    history: History, objective: Objective, *, top: int = 3
) -> list[str]:
    """Which of the best trials the rule would have stopped, had they not been run to their end.

    A rule that would have stopped one of the best is too eager; the caller then raises the bar.
    """
    done = [t for t in history.search() if t.finished and _feasible(t, objective)]
    best = sorted(done, key=lambda t: t.outcome.size if t.outcome and t.outcome.size else math.inf)
    return [trial.run_id for trial in best[:top] if trial.would_stop]


def _feasible(trial: Trial, objective: Objective) -> bool:
    outcome = trial.outcome
    return (
        outcome is not None
        and outcome.metric is not None
        and objective.feasible(outcome.metric, examples=outcome.examples)
    )


@dataclass(frozen=True)
class Hyperband:
    """Successive halving on the raw error, in brackets that begin to halve at different steps.

    A trial that reaches a rung goes on if its error is among the best 1/eta of all that the bracket has
    seen there so far (the asynchronous form: nobody waits).

    References:
        Li, Jamieson, DeSalvo, Rostamizadeh, Talwalkar 2018, "Hyperband"; Li et al. 2020, "A system for
        massively parallel hyperparameter tuning".
    """

    eta: int = 3
    least_steps: int = 1

    def brackets(self, total: int) -> int:
        """How many brackets there are for trials of so many steps."""
        count = 1
        while self.least_steps * self.eta**count <= total:
            count += 1
        return count

    def rungs(self, number: int, total: int) -> list[int]:
        """The steps at which the trial of that number is compared with others."""
        bracket = number % self.brackets(total)
        first = self.least_steps * self.eta**bracket
        steps = []
        while first < total:
            steps.append(first)
            first *= self.eta
        return steps

    def stops(self, trial: Trial, trials: Iterable[Trial], objective: Objective) -> bool:
        """Should the trial be stopped at the rung it has just reached?"""
        points = trial.curve()
        if not points or not trial.steps:
            return False
        step = points[-1].step
        if step not in self.rungs(trial.number, trial.steps) or points[-1].metric is None:
            return False
        own = objective.error(points[-1].metric)
        bracket = trial.number % self.brackets(trial.steps)
        peers = [
            objective.error(point.metric)
            for other in trials
            if other.number % self.brackets(trial.steps) == bracket
            for point in other.curve()
            if point.step == step and point.metric is not None
        ]
        return sum(error < own for error in peers) >= max(1, len(peers) // self.eta)
