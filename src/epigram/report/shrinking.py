"""Plates of the network getting smaller, epoch by epoch: units left, and the size of a file."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from epigram.report.curves import Curve, curve, draw_curve, epoch_axis, mark_stages, timeline
from epigram.report.folder import Run, before_after, number, record
from epigram.report.plates import Absent, Plate
from epigram.report.style import Theme, legend_above, log_ticks, new_figure
from epigram.report.words import group_name, grouped, in_bytes


def units_left(run: Run) -> Plate | Absent:
    """The share of each group's units that is left, epoch by epoch."""
    title = "Units left over the epochs"
    placed = timeline(run.history, plain=False)
    groups = list(dict.fromkeys(g for _, line in placed for g in record(line, "units")))
    if not groups:
        return Absent(
            title,
            "No units were counted during training, so their number over the epochs is not shown.",
        )
    curves = {group: curve(placed, "units", group) for group in groups[:7]}
    dense = {g: _dense_units(run, g, c) for g, c in curves.items()}

    def draw(theme: Theme) -> Figure:
        figure = new_figure(height=3.3)
        axes = figure.subplots()
        for colour, (group, points) in zip(theme.cycle, curves.items(), strict=False):
            shares = Curve(points.epochs, 100 * points.values / dense[group])
            label = f"{group_name(group)}: {dense[group]:g} → {points.values[-1]:g}"
            draw_curve(axes, shares, colour=colour, label=label)
        mark_stages(axes, placed, theme)
        axes.set_ylim(0, 104)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g} %"))
        epoch_axis(axes)
        legend_above(axes)
        return figure

    more = f" The first 7 of {len(groups)} groups are drawn." if len(groups) > 7 else ""
    final = {g: before_after(record(run.result, "units").get(g))[1] for g in curves}
    cut_later = any(
        after is not None and after < curves[g].values[-1] for g, after in final.items()
    )
    later = " What the cut after training takes comes on top." if cut_later else ""
    caption = (
        "Each line is a group of units; it falls when units are taken out, and later epochs get "
        f"cheaper.{later}{more}"
    )
    return Plate(
        "units-left", title, caption, "Line plot of the share of units left per group.", draw
    )


def _dense_units(run: Run, group: str, points: Curve) -> float:
    before, _ = before_after(record(run.result, "units").get(group))
    return before or max(float(points.values.max(initial=1.0)), 1.0)


def predicted_size(run: Run) -> Plate | None:
    """What a file would have taken at each epoch; None where that was not estimated."""
    placed = timeline(run.history, plain=False)
    points = curve(placed, "predicted_bytes")
    if len(points) < 2:
        return None
    actual = number(run.result, "file_bytes")

    def draw(theme: Theme) -> Figure:
        figure = new_figure(height=3.0)
        axes = figure.subplots()
        draw_curve(axes, points, colour=theme.third, label="a file written now")
        if actual is not None:
            axes.axhline(actual, color=theme.removed, linewidth=1.2, label="the file in the end")
        axes.set_yscale("log")
        log_ticks(axes.yaxis, grouped)
        axes.set_ylabel("bytes")
        epoch_axis(axes)
        legend_above(axes)
        return figure

    caption = (
        "What a file of the network would take if it were written after that epoch (logarithmic): "
        f"{in_bytes(points.values[0])} at first, {in_bytes(points.values[-1])} at last."
    )
    alt = "Line plot of the estimated file size against epochs."
    return Plate("predicted-size", "The size on its way down", caption, alt, draw)
