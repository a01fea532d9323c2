"""Forecasts that are too good to be true, or that promise more than they keep.

A forecaster that was fitted on what it forecasts is perfect, and worthless. A metric has noise of its own
that nobody can foresee, so an error below that noise, well before the end, is not skill.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from epigram.search.calibration import LookReport

_LEAST = 10
"""Judged forecasts without which nothing is concluded."""
_LATEST = 0.5
"""Looks beyond this fraction may be nearly perfect for honest reasons."""
_PERFECT = 0.999
_HALF = 0.5
_COVERED = 0.85


@dataclass(frozen=True)
class Alarm:
    """Why stopping is switched off.

    Attributes:
        kind: ``leak`` or ``overconfident``.
        look: at which fraction of a trial.
        sentence: one line for people.
    """

    kind: str
    look: float
    sentence: str


def alarms(reports: Sequence[LookReport]) -> list[Alarm]:
    """All that is wrong with the forecasts of a study.

    The last value seen is the yardstick: where nothing changes between the look and the end, that is as
    good as the best forecast, and perfection is no sign of a leak.
    """
    found = []
    for report in reports:
        if report.n < _LEAST:
            continue
        if report.look <= _LATEST and (leak := _leak(report)):
            found.append(Alarm("leak", report.look, leak))
        share, _, upper = report.coverage[0.9]
        if upper < _COVERED:
            found.append(
                Alarm(
                    "overconfident",
                    report.look,
                    f"forecasts at {report.look:.0%} of a trial: {share:.0%} of {report.n} outcomes "
                    "lay in their 90 % intervals; stopping is switched off",
                )
            )
    return found


def _leak(report: LookReport) -> str | None:
    better = report.mae < _HALF * report.mae_last
    suffix = (
        f"where the last value seen reaches {report.correlation_last:.4f} and {report.mae_last:.3g}. "
        "Leak suspected: the forecaster may have been fitted on what it forecasts; stopping is "
        "switched off"
    )
    where = f"forecasts at {report.look:.0%} of a trial"
    if not math.isnan(report.correlation) and report.correlation > _PERFECT and better:
        return (
            f"{where}: correlation {report.correlation:.4f}, mean error {report.mae:.3g} over "
            f"{report.n} trials, {suffix}"
        )
    if report.noise > 0 and report.mae < _HALF * report.noise and better:
        return (
            f"{where}: mean error {report.mae:.3g} over {report.n} trials is below the noise of the "
            f"metric itself ({report.noise:.3g}), {suffix}"
        )
    return None
