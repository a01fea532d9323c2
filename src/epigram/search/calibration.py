"""Were the forecasts any good? Judged on what the ledger held before each outcome, per look.

Only trials that ran to their end can be judged. Where a rule stops trials, those that it would have
stopped and that were run all the same (audits) stand for all that it did stop, and weigh as many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epigram.search.forecasting import LEVELS
from epigram.search.history import History
from epigram.search.objective import Objective

FloatArray = NDArray[np.float64]

_MASSES = (0.5, 0.8, 0.9)
_BINS = 10


@dataclass(frozen=True)
class Judged:
    """One forecast beside what came of it."""

    run_id: str
    look: float
    errors: tuple[float, ...]
    sizes: tuple[float, ...]
    p_feasible: float
    last_error: float
    last_size: float
    actual_error: float
    actual_size: float
    noise: float
    """Standard error of the actual error; 0 = unknown."""
    weight: float = 1.0

    @property
    def median_error(self) -> float:
        return float(np.interp(0.5, LEVELS, self.errors))

    @property
    def median_size(self) -> float:
        return float(np.interp(0.5, LEVELS, self.sizes))


@dataclass(frozen=True)
class LookReport:
    """How good the forecasts of one look were.

    Attributes:
        look: fraction of a trial.
        n: forecasts judged.
        correlation: of median and actual error; NaN where it is not defined.
        correlation_last: of the last value seen and actual error.
        mae: mean absolute error of the median, in units of the error.
        mae_last: the same of the last value seen.
        mae_log_size: of the median size, as a logarithm.
        mae_last_log_size: the same of the last size seen.
        coverage: mass -> (share inside, lower and upper end of its 95 % interval).
        pit: how often the outcome fell into each tenth of its forecast.
        crps: continuous ranked probability score, in units of the error.
        brier: of the probability of being feasible.
        brier_base: of always forecasting the share that is.
        reliability: (mean forecast, share that came true, n) for each tenth that occurs.
        noise: mean standard error of the outcomes themselves.
    """

    look: float
    n: int
    correlation: float
    correlation_last: float
    mae: float
    mae_last: float
    mae_log_size: float
    mae_last_log_size: float
    coverage: dict[float, tuple[float, float, float]]
    pit: tuple[int, ...]
    crps: float
    brier: float
    brier_base: float
    reliability: tuple[tuple[float, float, int], ...]
    noise: float

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it: NaN becomes None."""
        named = {
            key: (None if isinstance(value, float) and math.isnan(value) else value)
            for key, value in vars(self).items()
        }
        named["coverage"] = {f"{mass:g}": list(c) for mass, c in self.coverage.items()}
        named["pit"] = list(self.pit)
        named["reliability"] = [list(r) for r in self.reliability]
        return named


def judged(history: History, objective: Objective, *, audit_share: float = 0.0) -> list[Judged]:
    """Every forecast whose outcome is known and was not when it was made."""
    rows = []
    for trial in history.search():
        outcome = trial.outcome
        if outcome is None or not trial.finished or outcome.metric is None or not outcome.size:
            continue
        weight = 1.0 / audit_share if trial.audit and trial.would_stop and audit_share else 1.0
        rows += [
            Judged(
                trial.run_id,
                made["look"],
                tuple(made["errors"]),
                tuple(made["sizes"]),
                made["p_feasible"],
                made["last_error"],
                made["last_size"],
                objective.error(outcome.metric),
                outcome.size,
                objective.standard_error(outcome.metric, outcome.examples),
                weight,
            )
            for made in trial.forecasts
            if made["seq"] < trial.told_seq
        ]
    return rows


def calibration(rows: Sequence[Judged], objective: Objective) -> list[LookReport]:
    """A report for each look that has forecasts."""
    looks = sorted({row.look for row in rows})
    return [_report([r for r in rows if r.look == look], objective) for look in looks]


def _report(rows: Sequence[Judged], objective: Objective) -> LookReport:
    weight = np.array([r.weight for r in rows])
    actual = np.array([r.actual_error for r in rows])
    middle = np.array([r.median_error for r in rows])
    last = np.array([r.last_error for r in rows])
    log_actual = np.log([r.actual_size for r in rows])
    p = np.array([r.p_feasible for r in rows])
    came_true = (actual <= objective.limit).astype(np.float64)
    base = float(np.average(came_true, weights=weight))
    pits = np.array([pit(r.actual_error, r.errors) for r in rows])

    def mean(values: FloatArray) -> float:
        return float(np.average(values, weights=weight))

    return LookReport(
        rows[0].look,
        len(rows),
        correlation(middle, actual),
        correlation(last, actual),
        mean(np.abs(middle - actual)),
        mean(np.abs(last - actual)),
        mean(np.abs(np.log([r.median_size for r in rows]) - log_actual)),
        mean(np.abs(np.log([r.last_size for r in rows]) - log_actual)),
        {mass: _coverage(rows, mass, weight) for mass in _MASSES},
        tuple(int(c) for c in np.histogram(pits, bins=_BINS, range=(0.0, 1.0))[0]),
        mean(np.array([crps(r.actual_error, r.errors) for r in rows])),
        mean((p - came_true) ** 2),
        mean((base - came_true) ** 2),
        _reliability(p, came_true),
        mean(np.array([r.noise for r in rows])),
    )


def correlation(a: FloatArray, b: FloatArray) -> float:
    """Pearson's; NaN for fewer than three pairs, or where one side does not vary."""
    if len(a) < 3 or float(np.ptp(a)) == 0.0 or float(np.ptp(b)) == 0.0:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


def pit(actual: float, quantiles: Sequence[float]) -> float:
    """Where the outcome fell in its forecast, 0 to 1: uniform if the forecasts are honest."""
    edge = LEVELS[0] / 2
    return float(np.interp(actual, quantiles, LEVELS, left=edge, right=1.0 - edge))


def crps(actual: float, quantiles: Sequence[float]) -> float:
    """The continuous ranked probability score, as the mean pinball loss over the levels, doubled.

    For a forecast without width it is the absolute error. The mean over 21 levels is within 5 % of the
    integral for smooth forecasts.
    """
    levels, q = np.array(LEVELS), np.array(quantiles)
    miss = actual - q
    return float(2.0 * np.mean(np.maximum(levels * miss, (levels - 1.0) * miss)))


def clopper_pearson(hits: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """The exact two-sided interval of a share.

    Example:
        >>> [round(end, 3) for end in clopper_pearson(0, 10)]
        [0.0, 0.308]
    """
    from scipy.stats import beta  # noqa: PLC0415 - heavy

    tail = (1.0 - confidence) / 2
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, n - hits + 1))
    high = 1.0 if hits == n else float(beta.ppf(1.0 - tail, hits + 1, n - hits))
    return low, high


def _coverage(
    rows: Sequence[Judged], mass: float, weight: FloatArray
) -> tuple[float, float, float]:
    low, high = (1.0 - mass) / 2, (1.0 + mass) / 2
    inside = np.array(
        [
            np.interp(low, LEVELS, r.errors) <= r.actual_error <= np.interp(high, LEVELS, r.errors)
            for r in rows
        ]
    )
    return (
        float(np.average(inside, weights=weight)),
        *clopper_pearson(int(inside.sum()), len(rows)),
    )


def _reliability(p: FloatArray, came_true: FloatArray) -> tuple[tuple[float, float, int], ...]:
    tenth = np.minimum((p * _BINS).astype(int), _BINS - 1)
    return tuple(
        (float(p[tenth == k].mean()), float(came_true[tenth == k].mean()), int((tenth == k).sum()))
        for k in range(_BINS)
        if (tenth == k).any()
    )
