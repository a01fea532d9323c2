"""Which values to try next: the interface, and the ways that need no model.

A proposal is a pure function of the space, the study's seed, how many were asked for, and what is known.
Nothing is remembered between two calls, so a study that is gone on with proposes what it would have
proposed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from epigram.search.dimensions import Value
from epigram.search.history import Outcome, Trial
from epigram.search.identity import derived_seed
from epigram.search.objective import Objective, log_size
from epigram.search.space import Space

STARTUP = 10
"""Trials before a model is trusted; the first is the recipe's own point."""


@dataclass(frozen=True)
class Observation:
    """A trial as a sampler sees it: finite figures, always both of them.

    Attributes:
        number: of the trial, in the order of asking.
        values: what was tried.
        log_size: the objective, to be made small.
        violation: the constraint, met where it is at most 0.
        pending: asked for and not known yet; its figures mean nothing.
        imputed: its figures are a forecast or a penalty.
    """

    number: int
    values: dict[str, Value]
    log_size: float = 0.0
    violation: float = 0.0
    pending: bool = False
    imputed: bool = False


class Proposer(Protocol):
    """Proposes values for the next trial."""

    name: str

    def propose(self, space: Space, seen: Sequence[Observation], *, seed: int) -> dict[str, Value]:
        """Values within the space; the same arguments give the same values."""
        ...


class RandomProposer:
    """Uniformly within the space, whatever was seen."""

    name = "random"

    def propose(self, space: Space, seen: Sequence[Observation], *, seed: int) -> dict[str, Value]:
        """Values drawn with the seed."""
        del seen
        return space.random(np.random.default_rng(seed))


def startup(space: Space, index: int, *, study_seed: int) -> dict[str, Value]:
    """The ``index``-th point of a scrambled Sobol sequence, which fills the space evenly."""
    from scipy.stats import qmc  # noqa: PLC0415 - scipy is heavy, and random search does without

    sobol = qmc.Sobol(len(space), scramble=True, rng=derived_seed(study_seed, "startup"))
    if index:
        sobol.fast_forward(index)
    return space.at(sobol.random(1)[0].tolist())


def observe(trials: Sequence[Trial], objective: Objective, space: Space) -> list[Observation]:
    """What a sampler may learn from: every trial asked for, none of them without figures.

    A stopped trial is told by its forecast; one that diverged or failed by a penalty: the worst
    violation there is, and the largest size that was seen. A trial whose machine was lost is left out.
    """
    sizes = [t.outcome.size for t in trials if t.outcome is not None and t.outcome.size]
    sizes += [t.outcome.dense_size for t in trials if t.outcome and t.outcome.dense_size]
    worst_size = max(sizes, default=1.0)
    seen = []
    for trial in trials:
        values = space.nearest(trial.values)
        if trial.outcome is None:
            seen.append(Observation(trial.number, values, pending=True))
        elif not is_lost(trial.outcome):
            size, violation = figures(trial.outcome, objective, worst_size=worst_size)
            seen.append(
                Observation(trial.number, values, size, violation, imputed=trial.outcome.imputed)
            )
    return seen


LOST = "lost"
"""How the note of a trial begins that could not be run for reasons that are not its own."""


def is_lost(outcome: Outcome) -> bool:
    """Did the trial fail for reasons that are not its own?"""
    return outcome.kind == "failed" and outcome.note.partition(":")[0] == LOST


def figures(outcome: Outcome, objective: Objective, *, worst_size: float) -> tuple[float, float]:
    """Log size and violation, finite whatever happened."""
    if outcome.metric is None or outcome.size is None:
        return log_size(worst_size), objective.violation(float("nan"))
    violation = objective.violation(outcome.metric, examples=outcome.examples)
    return log_size(outcome.size), violation
