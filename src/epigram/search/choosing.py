"""Which sampler proposes the next trial, decided from what the ledger says and nothing else."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

from epigram.errors import ConfigError
from epigram.search.dimensions import Value
from epigram.search.history import Trial
from epigram.search.identity import derived_seed
from epigram.search.objective import Objective
from epigram.search.proposer import STARTUP, Proposer, RandomProposer, observe, startup
from epigram.search.samplers import GaussianProcess, Parzen
from epigram.search.space import Space

SamplerName: TypeAlias = Literal["auto", "gp", "tpe", "random"]

_SHARE = 0.01
"""Asking may cost this share of a trial."""
_MOST_DIMENSIONS = 20
_MOST_TRIALS = 150


def check_sampler(name: str) -> SamplerName:
    """The name of a sampler.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in get_args(SamplerName):
        raise ConfigError(
            f"sampler: got {name!r}, expected one of {', '.join(get_args(SamplerName))}"
        )
    return name  # type: ignore[return-value]


def proposer_for(name: SamplerName, trials: Sequence[Trial], *, dimensions: int) -> Proposer:
    """The proposer of that name; ``auto`` is the Gaussian process as long as it pays.

    It pays for at most 20 dimensions and 150 trials, and while asking costs at most 1 % of a trial.
    """
    if name == "random":
        return RandomProposer()
    if name == "tpe":
        return Parzen()
    if name == "gp" or _pays(trials, dimensions):
        return GaussianProcess()
    return Parzen()


def propose(
    name: SamplerName,
    space: Space,
    trials: Sequence[Trial],
    objective: Objective,
    *,
    study_seed: int,
    first: dict[str, Value],
) -> tuple[dict[str, Value], str]:
    """Values for the next trial, and which sampler they are from.

    Args:
        name: of the sampler.
        space: what is searched.
        trials: of the search so far.
        objective: what is wanted.
        study_seed: of everything random.
        first: the known-safe point to begin with.
    """
    asked = len(trials)
    if asked == 0:
        return first, "first"
    if asked < STARTUP and name != "random":
        return startup(space, asked - 1, study_seed=study_seed), "startup"
    proposer = proposer_for(name, trials, dimensions=len(space))
    seen = [] if name == "random" else observe(trials, objective, space)
    seed = derived_seed(study_seed, "ask", asked)
    return proposer.propose(space, seen, seed=seed), proposer.name


def perturbed(
    space: Space, values: dict[str, Value], *, seed: int, taken: Sequence[dict[str, Value]]
) -> dict[str, Value]:
    """Values near the given ones, none of those already taken; some other point where all near ones are."""
    import numpy as np  # noqa: PLC0415 - only where a proposal repeats itself

    generator = np.random.default_rng(seed)
    encoded = {name: d.encode(values[name]) for name, d in space.dimensions.items()}
    for attempt in range(200):
        width = 0.05 * 1.05**attempt
        shares = []
        for name in space.dimensions:
            row = encoded[name]
            at = row[0] if len(row) == 1 else (float(np.argmax(row)) + 0.5) / len(row)
            shares.append(float(np.clip(at + width * generator.standard_normal(), 0.0, 1.0)))
        candidate = space.at(shares)
        if candidate not in taken:
            return candidate
    return space.random(generator)


def _pays(trials: Sequence[Trial], dimensions: int) -> bool:
    if dimensions > _MOST_DIMENSIONS or len(trials) > _MOST_TRIALS:
        return False
    asks = [trial.ask_seconds for trial in trials if trial.sampler == "gp"][-3:]
    whole = [t.outcome.seconds for t in trials if t.outcome is not None and t.finished]
    if not asks or not whole:
        return True
    return statistics.median(asks) <= _SHARE * statistics.median(whole)
