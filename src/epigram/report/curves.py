"""Curves over the epochs: accuracy, NLL and KL of the plain and the Bayesian network, units left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from epigram.report.folder import Record, Run, number, record, text
from epigram.report.plates import Absent, Plate
from epigram.report.style import Theme, log_ticks, new_figure
from epigram.report.words import group_name, grouped, in_bytes, metric_value

PLAIN = "plain"


@dataclass(frozen=True)
class Curve:
    """Points of one quantity; ``epochs`` counts the epochs this network has been trained."""

    epochs: NDArray[np.float64]
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.epochs)


def timeline(history: Sequence[Record], *, plain: bool) -> list[tuple[float, Record]]:
    """The lines of the plain or of the Bayesian network with a running epoch, starting at 1.

    The stages of the Bayesian network follow each other; a stage that counts on from the one before it
    and a stage that counts from the start again are both understood.
    """
    lines = [line for line in history if (line.get("stage") == PLAIN) is plain]
    stages = dict.fromkeys(str(line.get("stage")) for line in lines)
    placed: list[tuple[float, Record]] = []
    last = 0.0
    for stage in stages:
        members = [
            (number(line, "epoch"), line) for line in lines if str(line.get("stage")) == stage
        ]
        known = [(epoch, line) for epoch, line in members if epoch is not None]
        if not known:
            continue
        first = min(epoch for epoch, _ in known)
        offset = 0.0 if first > last else last + 1.0 - first
        placed += sorted(((epoch + offset, line) for epoch, line in known), key=lambda p: p[0])
        last = placed[-1][0]
    return placed


def curve(placed: Sequence[tuple[float, Record]], *path: str) -> Curve:
    """One quantity over a timeline; epochs without it are left out."""
    points = [(epoch, number(line, *path)) for epoch, line in placed]
    known = [(epoch, value) for epoch, value in points if value is not None]
    return Curve(
        np.array([epoch for epoch, _ in known], dtype=np.float64),
        np.array([value for _, value in known], dtype=np.float64),
    )


def stage_starts(placed: Sequence[tuple[float, Record]]) -> list[tuple[float, str]]:
    """Where each stage begins on the running epoch."""
    starts: dict[str, float] = {}
    for epoch, line in placed:
        starts.setdefault(str(line.get("stage")), epoch)
    return [(epoch, stage) for stage, epoch in starts.items()]


def draw_curve(axes: Axes, points: Curve, *, colour: str, label: str, dashed: bool = False) -> None:
    """One line; a single epoch is a dot."""
    if not len(points):
        return
    axes.plot(
        points.epochs,
        points.values,
        color=colour,
        label=label,
        linestyle=(0, (3, 1.6)) if dashed else "-",
        linewidth=1.3 if dashed else 1.9,
        marker="o" if len(points) == 1 else "",
        markersize=4,
    )


def mark_stages(
    axes: Axes, placed: Sequence[tuple[float, Record]], theme: Theme, *, named: bool = True
) -> None:
    """A hairline where a later stage of the Bayesian network begins, with its name."""
    for epoch, stage in stage_starts(placed)[1:]:
        axes.axvline(epoch - 0.5, color=theme.muted, linewidth=0.8, linestyle=(0, (1, 2)))
        axes.annotate(
            f" {stage}" if named else "",
            (epoch - 0.5, 0.01),
            xycoords=("data", "axes fraction"),
            fontsize=8.5,
            color=theme.muted,
            va="bottom",
        )


def epoch_axis(axes: Axes) -> None:
    """Whole epochs on the horizontal axis."""
    axes.xaxis.set_major_locator(
        MaxNLocator(integer=True, nbins=8, min_n_ticks=1, steps=[1, 2, 5, 10])
    )
    axes.set_xlabel("epochs trained")


def legend_above(axes: Axes, *, columns: int = 2) -> None:
    """A legend over the axes, where it hides nothing."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(-0.02, 1.0),
            ncols=columns,
            borderaxespad=0.1,
            handlelength=1.7,
            columnspacing=1.2,
        )


def _both(run: Run) -> tuple[list[tuple[float, Record]], list[tuple[float, Record]]]:
    return timeline(run.history, plain=True), timeline(run.history, plain=False)


def _four(axes: Axes, run: Run, theme: Theme, quantity: str, *, scale: float = 1.0) -> None:
    """Training (dashed) and control (solid) of both networks."""
    plain, bayes = _both(run)
    for placed, colour, name in ((plain, theme.plain, "plain"), (bayes, theme.bayes, "Bayesian")):
        for part, dashed in (("control", False), ("train", True)):
            points = curve(placed, part, quantity)
            scaled = Curve(points.epochs, scale * points.values)
            draw_curve(axes, scaled, colour=colour, label=f"{name}, {part}", dashed=dashed)
    mark_stages(axes, bayes, theme)


def _has(run: Run, quantity: str) -> bool:
    return any(
        number(line, part, quantity) is not None
        for line in run.history
        for part in ("train", "control")
    )


def _who(run: Run) -> str:
    has_plain = any(line.get("stage") == PLAIN for line in run.history)
    has_bayes = any(line.get("stage") != PLAIN for line in run.history)
    if has_plain and has_bayes:
        return "the plain (grey) and the Bayesian network (blue)"
    return "the plain network" if has_plain else "the Bayesian network"


def accuracy(run: Run) -> Plate | Absent:
    """Accuracy of both networks on one plot, with the floor where it is one on accuracy."""
    title = "Accuracy over the epochs"
    if not _has(run, "accuracy"):
        return Absent(title, "The run's metrics hold no accuracy, so there is no curve of it.")
    metric, floor = text(run.result, "floor", "metric"), number(run.result, "floor", "value")
    shown_floor = floor if metric == "accuracy" else None

    def draw(theme: Theme) -> Figure:
        figure = new_figure(height=4.6)
        axes = figure.subplots()
        _four(axes, run, theme, "accuracy", scale=100.0)
        if shown_floor is not None:
            axes.axhline(100 * shown_floor, color=theme.removed, linewidth=1.2, label="floor")
        axes.set_ylim(*_accuracy_limits(axes, shown_floor))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g} %"))
        epoch_axis(axes)
        legend_above(axes, columns=3 if shown_floor is not None else 2)
        return figure

    floor_words = (
        ""
        if shown_floor is None
        else f" The orange line is the floor, {metric_value('accuracy', shown_floor)}."
    )
    caption = (
        f"Accuracy of {_who(run)}: solid on the control images, dashed on the images it was fitted to."
        f" A dashed line that leaves its solid one behind is overfitting.{floor_words}"
    )
    return Plate(
        "accuracy", title, caption, f"Line plot of accuracy against epochs for {_who(run)}.", draw
    )


def _accuracy_limits(axes: Axes, floor: float | None) -> tuple[float, float]:
    """Look at where the curves end up; the first epochs may leave the picture at the bottom."""
    values = np.concatenate(
        [np.asarray(line.get_ydata(), dtype=np.float64) for line in axes.get_lines()]
    )
    values = values[np.isfinite(values) & (values > 1.0)]
    settled = float(np.quantile(values, 0.12)) if len(values) else 0.0
    low = min(settled, 100 * floor if floor is not None else settled)
    top = max(float(values.max()) if len(values) else 100.0, low + 0.1)
    return low - 0.25 * (top - low), min(100.0 + 0.02 * (top - low), top + 0.12 * (top - low))


def losses(run: Run) -> Plate | Absent:
    """NLL of both networks, and below it the KL that the Bayesian one pays besides."""
    title = "What the loss is made of: NLL and KL"
    if not _has(run, "nll"):
        return Absent(title, "The run's metrics hold no NLL, so there is no curve of it.")
    kl = curve(timeline(run.history, plain=False), "train", "kl_nats")
    examples = run.num_train_examples

    def draw(theme: Theme) -> Figure:
        figure = new_figure(height=4.6)
        panels = figure.subplots(2 if len(kl) else 1, 1, sharex=True, squeeze=False)[:, 0]
        _four(panels[0], run, theme, "nll")
        panels[0].set_yscale("log")
        log_ticks(panels[0].yaxis, "{:g}".format)
        panels[0].set_ylabel("NLL, nats per image")
        legend_above(panels[0])
        if len(kl):
            _draw_kl(panels[1], kl, examples, theme)
            mark_stages(panels[1], timeline(run.history, plain=False), theme, named=False)
        epoch_axis(panels[-1])
        return figure

    kl_words = ""
    if len(kl):
        kl_words = (
            f" Below: the KL of the Bayesian network from its prior, {grouped(kl.values[0])} nats at first,"
            f" {grouped(kl.values[-1])} in the end: what the weights cost, falling as they leave."
        )
    caption = f"NLL (lower is better, logarithmic) of {_who(run)}: solid on control images, dashed on fitted ones.{kl_words}"
    return Plate(
        "nll-kl", title, caption, f"Line plots of NLL and KL against epochs for {_who(run)}.", draw
    )


def _draw_kl(axes: Axes, kl: Curve, examples: float | None, theme: Theme) -> None:
    draw_curve(axes, kl, colour=theme.third, label="KL of the whole network")
    axes.set_yscale("log")
    log_ticks(axes.yaxis, grouped)
    axes.set_ylabel("KL, nats in all")
    if examples:
        beside = axes.secondary_yaxis(
            "right",
            functions=(lambda v: np.asarray(v) / examples, lambda v: np.asarray(v) * examples),
        )
        beside.set_ylabel("KL, nats per image")
        low, high = axes.get_ylim()
        log_ticks(beside.yaxis, "{:g}".format, limits=(low / examples, high / examples))
        beside.spines["right"].set_visible(False)


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


def _dense_units(run: Run, group: str, points: Curve) -> float:
    before, _ = before_after(record(run.result, "units").get(group))
    return before or max(float(points.values.max(initial=1.0)), 1.0)


def before_after(entry: object) -> tuple[float | None, float | None]:
    """``{"before": b, "after": a}`` or ``[b, a]``."""
    if isinstance(entry, list | tuple) and len(entry) == 2:
        return number({"v": entry[0]}, "v"), number({"v": entry[1]}, "v")
    return number(entry, "before"), number(entry, "after")
