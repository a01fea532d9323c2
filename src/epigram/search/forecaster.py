"""Final error and size, forecast together from a curve's beginning.

    final = last seen + what the trees expect to change + how wrong they were on trials they had not seen

The third term is drawn from paired out-of-bag residuals, so a forecast is a cloud of (error, size) and a
probability of being feasible *and* small is joint.

References:
    Geurts, Ernst, Wehenkel 2006 (extremely randomised trees).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from epigram.errors import LeakError
from epigram.search import features
from epigram.search.curves import FinishedCurve, Prefix
from epigram.search.forest import Forest

FloatArray = NDArray[np.float64]

LEAST_CURVES: Final = 12
"""Finished trials without which nothing is forecast."""

_VERSION = "extra-trees-1"


@dataclass(frozen=True, eq=False)
class Forecast:
    """A cloud of ends, equally likely.

    Attributes:
        errors: ``[samples]``.
        sizes: ``[samples]``, paired with the errors.
        last_error: the baseline: as if nothing changed any more.
        last_size: the same; the typical final size where no size is known yet.
        model_id: which model, in which version.
        train_hash: of the ids of the trials it was fitted on.
        trained_on: how many those were.
    """

    errors: FloatArray
    sizes: FloatArray
    last_error: float
    last_size: float
    model_id: str
    train_hash: str
    trained_on: int

    def probability(self, limit: float, size: float = math.inf) -> float:
        """That the error is at most ``limit`` and the size at most ``size``; never quite 0 or 1."""
        hits = float(np.sum((self.errors <= limit) & (self.sizes <= size)))
        return (hits + 0.5) / (len(self.errors) + 1.0)

    def quantiles(self, levels: Sequence[float]) -> tuple[list[float], list[float]]:
        """Of error and of size."""
        return (
            [float(x) for x in np.quantile(self.errors, levels)],
            [float(x) for x in np.quantile(self.sizes, levels)],
        )


class Forecaster:
    """A forecaster for one look (one fraction of a trial), fitted to finished trials.

    ``Forecaster.fit(curves, …)`` makes one; it can be asked about trials that are not among them.
    """

    def __init__(
        self,
        forest: Forest,
        run_ids: frozenset[str],
        *,
        fraction: float,
        share: bool,
        positive: bool,
        typical_log_size: float,
    ) -> None:
        self._forest = forest
        self._run_ids = run_ids
        self._fraction = fraction
        self._share = share
        self._positive = positive
        self._typical = typical_log_size
        self.train_hash = hash_of(run_ids)
        self.model_id = f"{_VERSION}@{fraction:g}"

    @classmethod
    def fit(
        cls,
        curves: Sequence[FinishedCurve],
        *,
        fraction: float,
        share: bool = True,
        seed: int = 0,
    ) -> Forecaster | None:
        """Fit to finished trials; None if they are too few.

        Args:
            curves: of trials that ran to their end. Never of the one that will be asked about.
            fraction: how far a trial will have come when it is asked about, 0 to 1.
            share: the error is a share of examples.
            seed: of the trees.
        """
        usable = [(c, p) for c in curves if (p := c.prefix(fraction)) is not None]
        if len(usable) < LEAST_CURVES:
            return None
        typical = float(np.median([math.log(c.final_size) for c, _ in usable]))
        forest = Forest(
            np.array([features.row(p, share=share) for _, p in usable]),
            np.array(
                [features.targets(c, p, share=share, typical_log_size=typical) for c, p in usable]
            ),
            [c.design for c, _ in usable],
            seed=seed,
        )
        ids = frozenset(c.run_id for c, _ in usable)
        positive = all(c.final_error > 0 for c, _ in usable)
        return cls(
            forest, ids, fraction=fraction, share=share, positive=positive, typical_log_size=typical
        )

    def predict(self, prefix: Prefix) -> Forecast:
        """The forecast for a trial that is going on.

        Raises:
            LeakError: it was fitted on this very trial.
        """
        if prefix.run_id in self._run_ids:
            raise LeakError(
                f"run {prefix.run_id} is among the {len(self._run_ids)} trials this forecaster was "
                "fitted on; expected one fitted on other trials only"
            )
        return self._predict(prefix)

    def _predict(self, prefix: Prefix) -> Forecast:
        last_error, last_size = features.last_value(
            prefix, share=self._share, typical_log_size=self._typical
        )
        change = self._forest.predict(features.row(prefix, share=self._share))
        cloud = change + self._forest.residuals
        errors = features.unsquash(
            last_error + cloud[:, 0], share=self._share, positive=self._positive
        )
        return Forecast(
            errors,
            np.exp(last_size + cloud[:, 1]),
            prefix.steps[-1].error,
            math.exp(last_size),
            self.model_id,
            self.train_hash,
            len(self._run_ids),
        )


def hash_of(run_ids: frozenset[str]) -> str:
    """16 hexadecimal digits that stand for a set of trials."""
    text = json.dumps(sorted(run_ids), separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]
