"""Which design a study tries next: a new one, or one that is proposed again with another seed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from epigram.search import choosing, identity
from epigram.search.common import Common
from epigram.search.dimensions import Value
from epigram.search.history import Trial
from epigram.search.objective import Objective
from epigram.search.settings import StudySettings
from epigram.search.space import Space

_REPLICATES: Final = 2
"""A design that is proposed again is trained with another seed, at most so many times as long as another is left."""


@dataclass(frozen=True)
class Proposal:
    """What to train next.

    Attributes:
        values: the searched settings.
        seed: to train with.
        design: the run id of the first trial with these values.
        sampler: who proposed it.
        ask_seconds: what that took.
    """

    values: dict[str, Value]
    seed: int
    design: str
    sampler: str
    ask_seconds: float


def proposal(
    settings: StudySettings,
    space: Space,
    common: Common,
    objective: Objective,
    trials: Sequence[Trial],
) -> Proposal:
    """The next one, from the trials of the search so far and nothing else."""
    began = time.perf_counter()
    values, sampler = choosing.propose(
        settings.sampler,
        space,
        trials,
        objective,
        study_seed=settings.seed,
        first=common.first(space),
    )
    design = common.run_id(values, settings.seed)
    same = sum(trial.design == design for trial in trials)
    if same > _REPLICATES:
        values = choosing.perturbed(
            space,
            values,
            seed=identity.derived_seed(settings.seed, "perturb", len(trials)),
            taken=[dict(trial.values) for trial in trials],
        )
        design = common.run_id(values, settings.seed)
        same = sum(trial.design == design for trial in trials)  # 0, unless every point was tried
    seconds = time.perf_counter() - began
    return Proposal(values, settings.seed + same, design, sampler, round(seconds, 4))
