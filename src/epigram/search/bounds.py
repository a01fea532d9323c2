"""The worst error that is still plausible, from a split that no trial has seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from epigram.search.history import Trial
from epigram.search.objective import Objective


@dataclass(frozen=True)
class Bound:
    """Of a file's error.

    Attributes:
        error: as measured there.
        upper: its one-sided upper bound; infinity where nothing is known of the noise.
        alpha: how often the bound is too low.
    """

    error: float
    upper: float
    alpha: float


def bound_of(trial: Trial, objective: Objective, *, alpha: float) -> Bound | None:
    """The bound of a file's error on the separate split; None if the trial says nothing of that split.

    Clopper and Pearson's for a share of examples; else the normal one from a standard error ``se``.
    """
    found = None if trial.outcome is None else trial.outcome.confirmation
    metric = None if found is None else found.get(objective.floor.metric)
    if found is None or not isinstance(metric, int | float) or not math.isfinite(metric):
        return None
    error = objective.error(float(metric))
    examples, se = found.get("examples"), found.get("se")
    if objective.is_share and type(examples) is int and examples > 0:
        wrong = round(min(1.0, max(0.0, error)) * examples)
        return Bound(error, upper_share(wrong, examples, alpha=alpha), alpha)
    if isinstance(se, int | float) and math.isfinite(se) and se >= 0:
        return Bound(error, error + NormalDist().inv_cdf(1.0 - alpha) * se, alpha)
    return Bound(error, math.inf, alpha)


def upper_share(hits: int, n: int, *, alpha: float) -> float:
    """The exact one-sided upper bound of a share (Clopper, Pearson 1934).

    Example:
        >>> round(upper_share(0, 100, alpha=0.05), 4)  # the rule of three
        0.0295
    """
    from scipy.stats import beta  # noqa: PLC0415 - heavy

    return 1.0 if hits >= n else float(beta.ppf(1.0 - alpha, hits + 1, n - hits))
