"""How the floor (or the budget) was held: the constraint and the multiplier, epoch by epoch."""

from __future__ import annotations

from matplotlib.figure import Figure

from epigram.report.curves import (
    curve,
    draw_curve,
    epoch_axis,
    mark_stages,
    timeline,
)
from epigram.report.folder import Run, number
from epigram.report.plates import Plate
from epigram.report.style import Theme, legend_above, log_ticks, new_figure


def steering(run: Run) -> Plate | None:
    """Constraint above, multiplier below; None where nothing was steered."""
    placed = timeline(run.history, plain=False)
    constraint, multiplier = curve(placed, "constraint"), curve(placed, "multiplier")
    if len(multiplier) < 2 or len(constraint) < 2:
        return None
    budget = number(run.result, "budget", "bytes") is not None

    def draw(theme: Theme) -> Figure:
        figure = new_figure(height=4.2)
        above, below = figure.subplots(2, 1, sharex=True)
        label = "bytes beyond the budget" if budget else "room above the aim"
        draw_curve(above, constraint, colour=theme.bayes, label=label)
        above.axhline(0.0, color=theme.removed, linewidth=1.2)
        above.set_ylabel("in its own noise")
        legend_above(above)
        draw_curve(below, multiplier, colour=theme.third, label="multiplier of the complexity")
        below.set_yscale("log")
        log_ticks(below.yaxis, "{:g}".format)
        legend_above(below)
        for axes in (above, below):
            mark_stages(axes, placed, theme, named=axes is above)
        epoch_axis(below)
        return figure

    held = "the budget" if budget else "the floor"
    caption = (
        f"How {held} was held. Above: the constraint on the control images, in standard deviations of its "
        "noise; the orange line is what was aimed at. Below: the multiplier of the complexity, which rises "
        f"while the constraint is above the line and falls while it is below; {multiplier.values[0]:.3g} at "
        f"first, {multiplier.values[-1]:.3g} in the end."
    )
    alt = "Line plots of the constraint and of the multiplier against epochs."
    return Plate("steering", "The constraint and its multiplier", caption, alt, draw)
