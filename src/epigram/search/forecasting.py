"""Forecasts of a study: made at fixed looks, and written down before anybody knows the outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from epigram.errors import ConfigError
from epigram.search.curves import FinishedCurve, Prefix, finished_curve, look_step, prefix_of
from epigram.search.forecaster import Forecast, Forecaster
from epigram.search.history import History, Trial
from epigram.search.objective import Objective
from epigram.search.space import Space

LOOKS: Final = (0.25, 0.5, 0.75)
"""Fractions of a trial at which one looks."""

LEVELS: Final = (0.025, *(round(0.05 * k, 2) for k in range(1, 20)), 0.975)
"""Quantiles that are written down: enough for coverage, PIT and CRPS."""


class Predicts(Protocol):
    """A fitted forecaster."""

    def predict(self, prefix: Prefix) -> Forecast: ...


_MANY: Final = 100
"""Finished trials from which on a fifth more of them change little."""

Fit = Callable[[Sequence[FinishedCurve], float], "Predicts | None"]
"""(finished curves of other trials, fraction) -> a forecaster, or None if they are too few."""


@dataclass(frozen=True)
class Looked:
    """A forecast and the beginning it was made from."""

    look: float
    prefix: Prefix
    forecast: Forecast


def rung(count: int) -> int:
    """The largest number up to ``count`` in a row that grows by a fifth, and by half from 100 on.

    1, 2, … 9, 10, 12, 14, 16, 19, …. A thousand trials have 29 of them: what is done anew at each costs
    little in all.

    Example:
        >>> [rung(n) for n in (9, 10, 11, 12, 47, 1000)]
        [9, 10, 10, 12, 44, 792]
    """
    at = 0
    while (after := max(at + 1, at * 6 // 5 if at < _MANY else at * 3 // 2)) <= count:
        at = after
    return at


class Forecasting:
    """Makes the forecasts of a study; fits anew at every ``rung`` of finished trials.

    Args:
        objective: what is wanted.
        space: what is searched.
        looks: fractions of a trial, ascending.
        fit: makes forecasters; None = extremely randomised trees.

    Raises:
        ConfigError: a look is not between 0 and 1.
    """

    def __init__(
        self,
        objective: Objective,
        space: Space,
        *,
        looks: Sequence[float] = LOOKS,
        fit: Fit | None = None,
    ) -> None:
        if not looks or not all(0.0 < look < 1.0 for look in looks):
            raise ConfigError(f"looks: got {tuple(looks)}, expected fractions between 0 and 1")
        self.objective, self.space, self.looks = objective, space, tuple(sorted(looks))
        self._fit = fit or self._trees
        self._fitted: dict[float, tuple[int, Predicts | None]] = {}

    def due(self, trial: Trial) -> list[float]:
        """The looks that the trial has reached and that were not taken yet."""
        points = trial.curve()
        if not trial.steps or not points:
            return []
        taken = {forecast["look"] for forecast in trial.forecasts}
        reached = points[-1].step
        return [
            look
            for look in self.looks
            if look not in taken and look_step(look, trial.steps) <= reached
        ]

    def look(self, trial: Trial, history: History, look: float) -> Looked | None:
        """The forecast for a trial at one look; None if too little is known."""
        prefix = prefix_of(trial, self.objective, self.space, look)
        if prefix is None:
            return None
        forecaster = self._forecaster(history, look)
        return None if forecaster is None else Looked(look, prefix, forecaster.predict(prefix))

    def _forecaster(self, history: History, look: float) -> Predicts | None:
        count = rung(len(history.finished))
        kept = self._fitted.get(look)
        if kept is None or kept[0] != count:
            first = list(history.finished.values())[:count]
            found = (finished_curve(t, self.objective, self.space) for t in first)
            kept = (count, self._fit([curve for curve in found if curve is not None], look))
            self._fitted[look] = kept
        return kept[1]

    def _trees(self, curves: Sequence[FinishedCurve], look: float) -> Forecaster | None:
        return Forecaster.fit(curves, fraction=look, share=self.objective.is_share)


def as_event(trial: Trial, looked: Looked, objective: Objective) -> Mapping[str, Any]:
    """What the ledger keeps of a forecast."""
    forecast = looked.forecast
    errors, sizes = forecast.quantiles(LEVELS)
    return {
        "run_id": trial.run_id,
        "attempt": trial.attempt,
        "look": looked.look,
        "step": looked.prefix.upto,
        "model_id": forecast.model_id,
        "train_hash": forecast.train_hash,
        "trained_on": forecast.trained_on,
        "errors": [round(x, 8) for x in errors],
        "sizes": [round(x, 3) for x in sizes],
        "last_error": forecast.last_error,
        "last_size": round(forecast.last_size, 3),
        "p_feasible": round(forecast.probability(objective.limit), 6),
    }
