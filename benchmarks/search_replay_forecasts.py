"""Trials of a table forecast from those before them, honestly or with the mistake that the alarm is for."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from search_replay_table import Table

from epigram.search import features
from epigram.search.calibration import Judged
from epigram.search.curves import FinishedCurve, Prefix, finished_curve
from epigram.search.forecaster import Forecaster
from epigram.search.forecasting import LEVELS


def curves_of(table: Table) -> list[FinishedCurve]:
    """Every row of the table as a finished curve."""
    found = []
    for row in range(len(table.trials)):
        trial = table.trial(row, row)
        trial.points[1] = [table.point(row, step) for step in range(1, table.steps + 1)]
        trial.outcome = table.outcome(row)
        curve = finished_curve(trial, table.objective, table.space)
        assert curve is not None
        found.append(curve)
    return found


def forecasts(
    table: Table, *, order: int, look: float, every: int, part: int = 0, leak: bool = False
) -> list[Judged]:
    """Trials forecast from those before them, in a random order of the table.

    Args:
        table: of finished trials.
        order: seeds the order.
        look: fraction of a trial.
        every: only each so many-th trial is forecast; the ones before it all count.
        part: with which of them to begin.
        leak: fit to the trial itself, too: the mistake that the alarm is for.
    """
    rows = []
    known = curves_of(table)
    share = table.objective.is_share
    sequence = np.random.default_rng(order).permutation(len(known))
    for at in range(12 + part, len(sequence), every):
        past, target = [known[i] for i in sequence[:at]], known[sequence[at]]
        prefix = target.prefix(look)
        assert prefix is not None
        if leak:
            errors, sizes = leaky_quantiles([*past, target], prefix, share=share)
        else:
            fitted = Forecaster.fit(past, fraction=look, share=share)
            assert fitted is not None
            errors, sizes = fitted.predict(prefix).quantiles(LEVELS)
        typical = float(np.median([math.log(one.final_size) for one in past]))
        _, last_log_size = features.last_value(prefix, share=share, typical_log_size=typical)
        metric = table.objective.metric(target.final_error)
        rows.append(
            Judged(
                f"{target.run_id}/{order}",
                look,
                tuple(errors),
                tuple(sizes),
                float(np.mean(np.array(errors) <= table.objective.limit)),
                prefix.steps[-1].error,
                math.exp(last_log_size),
                target.final_error,
                target.final_size,
                table.objective.standard_error(metric, table.examples),
            )
        )
    return rows


def leaky_quantiles(
    known: Sequence[FinishedCurve], prefix: Prefix, *, share: bool
) -> tuple[list[float], list[float]]:
    """The notebook's mistake: trees fitted anew with the very trial that is then "forecast"."""
    from sklearn.ensemble import ExtraTreesRegressor

    prefixes = [one.prefix(prefix.fraction) for one in known]
    rows = [features.row(one, share=share) for one in prefixes if one is not None]
    ends = [[one.final_error, math.log(one.final_size)] for one in known]
    fitted = ExtraTreesRegressor(n_estimators=20, random_state=0).fit(rows, ends)
    error, log_size = fitted.predict([features.row(prefix, share=share)])[0]
    return [float(error)] * len(LEVELS), [math.exp(log_size)] * len(LEVELS)
