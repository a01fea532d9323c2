"""Pictures of forecasts beside what came of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from epigram.report.plates import Absent, Plate
from epigram.report.style import Theme, log_ticks, new_figure
from epigram.search.calibration import Judged, LookReport
from epigram.search.forecasting import LEVELS


def predicted(rows: Sequence[Judged], *, scale: float) -> Plate | Absent:
    """Forecast against actual error, a panel for each look."""
    title = "Forecast and outcome"
    looks = sorted({row.look for row in rows})
    if not looks:
        return Absent(title, "No trial with a forecast has run to its end, so none can be judged.")

    def draw(theme: Theme) -> Figure:
        figure = new_figure(height=2.9, width=3.0 * len(looks))
        panels = np.atleast_1d(figure.subplots(1, len(looks), sharex=True, sharey=True))
        log = min(min(r.actual_error, r.errors[0]) for r in rows) > 0
        for axes, look in zip(panels, looks, strict=True):
            chosen = [row for row in rows if row.look == look]
            low, middle, high = (
                [scale * float(np.interp(level, LEVELS, r.errors)) for r in chosen]
                for level in (0.05, 0.5, 0.95)
            )
            actual = [scale * row.actual_error for row in chosen]
            axes.vlines(actual, low, high, color=theme.grid, linewidth=1.5)
            axes.scatter(actual, middle, s=12, color=theme.bayes, zorder=3)
            axes.set_title(f"at {look:.0%}")
            if log:
                axes.set_xscale("log")
                axes.set_yscale("log")
                log_ticks(axes.xaxis, "{:g}".format)
                log_ticks(axes.yaxis, "{:g}".format)
            ends = [min(*actual, *middle), max(*actual, *middle)]
            axes.plot(ends, ends, color=theme.muted, linewidth=0.9)
            axes.set_xlabel("actual error")
        panels[0].set_ylabel("forecast")
        return figure

    caption = (
        "One dot per trial that ran to its end; bars are 90 % intervals. Each forecast was written down "
        "before its outcome was known, by a model fitted to other trials. A perfect picture is a leak."
    )
    return Plate("forecasts", title, caption, "Scatter of forecast against actual errors.", draw)


def calibrated(reports: Sequence[LookReport]) -> Plate | Absent:
    """Coverage of the intervals, and where outcomes fell in their forecasts."""
    title = "Are forecasts honest?"
    if not reports:
        return Absent(title, "No forecast has been judged yet.")

    def draw(theme: Theme) -> Figure:
        figure = new_figure(height=2.9, width=9.0)
        inside, tenths, chances = figure.subplots(1, 3)
        for place, report in enumerate(reports):
            colour = theme.cycle[place % len(theme.cycle)]
            masses = list(report.coverage)
            shares, lows, highs = zip(*report.coverage.values(), strict=True)
            offset = 0.012 * (place - (len(reports) - 1) / 2)
            at = [mass + offset for mass in masses]
            inside.vlines(at, lows, highs, color=colour, linewidth=1.2)
            inside.scatter(at, shares, s=20, color=colour, label=f"at {report.look:.0%}")
            edges = np.linspace(0.0, 1.0, len(report.pit) + 1)
            tenths.stairs(np.array(report.pit) / report.n, edges, color=colour, linewidth=1.4)
            told, came, counts = zip(*report.reliability, strict=True)
            sizes = 8 + 60 * np.array(counts) / report.n
            chances.plot(told, came, color=colour, linewidth=0.9)
            chances.scatter(told, came, s=sizes, color=colour)
        inside.plot([0.4, 1.0], [0.4, 1.0], color=theme.muted, linewidth=0.9)
        tenths.axhline(1 / len(reports[0].pit), color=theme.muted, linewidth=0.9)
        tenths.set_ylim(bottom=0.0)
        chances.plot([0.0, 1.0], [0.0, 1.0], color=theme.muted, linewidth=0.9)
        inside.set_xlabel("intervals of")
        inside.set_ylabel("outcomes inside")
        inside.legend(loc="lower right")
        tenths.set_xlabel("where the outcome fell in its forecast")
        tenths.set_ylabel("share of forecasts")
        chances.set_xlabel("forecast chance to meet the floor")
        chances.set_ylabel("share that met it")
        return figure

    caption = (
        "Left: how many outcomes lay in the intervals of 50, 80 and 90 %, with 95 % intervals of that "
        "share. Middle: flat if the forecasts are honest, a hill if they are too wide, a bowl if too narrow. "
        "Right: on the line if chances are honest; larger dots stand for more forecasts."
    )
    words = "Coverage of intervals, a PIT histogram and a reliability diagram for each look."
    return Plate("calibration", title, caption, words, draw)
