"""Proposals by Optuna's samplers, from a study that is built anew in memory for each of them.

What Optuna 5 does with a trial decides what it is told (tests pin each of these facts):

* a finished trial without a constraint counts as feasible, and stops the Gaussian process with an
  error: here every one has it;
* PRUNED is invisible to the Gaussian process and ranked by another quantity in TPE: here it is never told;
* infinities are taken at face value and NaN fails the trial: here figures are clipped and finite;
* a sampler's random state is not kept: here it is fresh for each ask, with a seed of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from epigram.errors import ConfigError
from epigram.search.dimensions import Choice, Dimension, Real, Value, Whole
from epigram.search.history import Trial
from epigram.search.objective import Objective
from epigram.search.proposer import Observation, observe
from epigram.search.smoothing import smoothed
from epigram.search.space import Space

CONSTRAINT: Final = "floor"
_PENALTY = 100.0
LEAST_OPTUNA = (5, 0)


def optuna_module() -> Any:
    """Optuna, recent enough.

    Raises:
        ConfigError: it is not installed, or too old.
    """
    try:
        import optuna  # noqa: PLC0415 - an extra, and heavy
    except ImportError as error:
        raise ConfigError(
            "search: Optuna is not installed; expected `pip install 'epigram[search]'`, "
            "or --sampler random"
        ) from error
    version = tuple(int(part) for part in optuna.__version__.split(".")[:2])
    if version < LEAST_OPTUNA:
        raise ConfigError(f"search: got Optuna {optuna.__version__}, expected 5.0 or later")
    return optuna


@contextmanager
def silent(optuna: Any) -> Iterator[None]:
    """Optuna without its log lines and warnings of experimental features; both are put back."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)


class GaussianProcess:
    """Optuna's ``GPSampler`` on log size, with log(error / limit) as constraint; sizes are smoothed."""

    name = "gp"

    def propose(self, space: Space, seen: Sequence[Observation], *, seed: int) -> dict[str, Value]:
        """Values where the expected improvement among feasible points is largest."""
        optuna = optuna_module()
        sampler = optuna.samplers.GPSampler(seed=seed, n_startup_trials=0)
        return _ask(sampler, space, smoothed(space, seen), penalty=False)


class Parzen:
    """Optuna's ``TPESampler``; what misses the floor pays a penalty on its log size."""

    name = "tpe"

    def propose(self, space: Space, seen: Sequence[Observation], *, seed: int) -> dict[str, Value]:
        """Values that look more like the good trials than like the others."""
        optuna = optuna_module()
        sampler = optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=0, multivariate=True, constant_liar=True
        )
        return _ask(sampler, space, seen, penalty=True)


def distributions(space: Space) -> dict[str, Any]:
    """The space in Optuna's words; options by their place, since Optuna warns of some types."""
    optuna = optuna_module()
    return {name: _distribution(optuna, d) for name, d in space.dimensions.items()}


def to_params(space: Space, values: dict[str, Value]) -> dict[str, Any]:
    """Values in Optuna's words."""
    return {
        name: d.options.index(values[name]) if isinstance(d, Choice) else values[name]
        for name, d in space.dimensions.items()
    }


def from_params(space: Space, params: dict[str, Any]) -> dict[str, Value]:
    """The inverse of ``to_params``."""
    return {
        name: d.options[params[name]] if isinstance(d, Choice) else params[name]
        for name, d in space.dimensions.items()
    }


def rebuilt(space: Space, seen: Sequence[Observation], sampler: Any, *, penalty: bool) -> Any:
    """An Optuna study in memory that knows what was seen, in the order of asking.

    Every finished trial is COMPLETE and has the constraint (or the penalty, for samplers that do
    better with it); those under way are RUNNING.
    """
    optuna = optuna_module()
    states = optuna.trial.TrialState
    study = optuna.create_study(sampler=sampler, study_name="epigram")
    known = distributions(space)
    for one in sorted(seen, key=lambda o: o.number):
        state = states.RUNNING if one.pending else states.COMPLETE
        told: dict[str, Any] = {}
        if not one.pending:
            told["value"] = one.log_size + _PENALTY * max(0.0, one.violation) * penalty
            if not penalty:
                told["constraints"] = {CONSTRAINT: one.violation}
        study.add_trial(
            optuna.trial.create_trial(
                state=state, params=to_params(space, one.values), distributions=known, **told
            )
        )
    return study


def _ask(
    sampler: Any, space: Space, seen: Sequence[Observation], *, penalty: bool
) -> dict[str, Value]:
    with silent(optuna_module()):
        study = rebuilt(space, seen, sampler, penalty=penalty)
        asked = study.ask(distributions(space))
    return space.check(_tidied(space, from_params(space, asked.params)))


def _tidied(space: Space, values: dict[str, Value]) -> dict[str, Value]:
    """Twelve digits and inside the range: the same on paper as in memory."""
    tidy: dict[str, Value] = {}
    for name, dimension in space.dimensions.items():
        value = values[name]
        if isinstance(dimension, Real):
            value = min(dimension.high, max(dimension.low, float(f"{value:.12g}")))
        tidy[name] = value
    return tidy


def _distribution(optuna: Any, dimension: Dimension) -> Any:
    words = optuna.distributions
    if isinstance(dimension, Choice):
        return words.CategoricalDistribution(tuple(range(len(dimension.options))))
    if isinstance(dimension, Whole):
        return words.IntDistribution(dimension.low, dimension.high, log=dimension.log)
    return words.FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def importances(
    trials: Sequence[Trial], objective: Objective, space: Space, *, least: int = 10
) -> dict[str, dict[str, float]]:
    """How much each setting matters for size and for error (PED-ANOVA); empty for few trials.

    References:
        Watanabe, Bansal, Hutter 2023, "PED-ANOVA".
    """
    seen = [one for one in observe(trials, objective, space) if not one.pending]
    if len(seen) < least:
        return {}
    optuna = optuna_module()
    found: dict[str, dict[str, float]] = {}
    with silent(optuna):
        for what, figure in (("size", "log_size"), ("error", "violation")):
            told = {one.number: getattr(one, figure) for one in seen}
            if len(set(told.values())) < 2:
                continue
            study = rebuilt(space, seen, optuna.samplers.RandomSampler(), penalty=False)
            numbers = sorted(told)
            shares = optuna.importance.get_param_importances(
                study,
                evaluator=optuna.importance.PedAnovaImportanceEvaluator(),
                target=lambda trial, told=told, numbers=numbers: told[numbers[trial.number]],
            )
            found[what] = {name: float(shares.get(name, 0.0)) for name in space.dimensions}
    return found
