"""Plates of the training: accuracy, NLL and KL of the plain and of the Bayesian network."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from epigram.report.curves import (
    PLAIN,
    Curve,
    curve,
    draw_curve,
    epoch_axis,
    mark_stages,
    timeline,
)
from epigram.report.folder import Record, Run, number, text
from epigram.report.plates import Absent, Plate
from epigram.report.style import Theme, legend_above, log_ticks, new_figure
from epigram.report.words import grouped, metric_value


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


def _four(axes: Axes, run: Run, theme: Theme, quantity: str, *, scale: float = 1.0) -> None:
    """Training (dashed) and control (solid) of both networks."""
    plain, bayes = _both(run)
    for placed, colour, name in ((plain, theme.plain, "plain"), (bayes, theme.bayes, "Bayesian")):
        for part, dashed in (("control", False), ("train", True)):
            points = curve(placed, part, quantity)
            scaled = Curve(points.epochs, scale * points.values)
            draw_curve(axes, scaled, colour=colour, label=f"{name}, {part}", dashed=dashed)
    mark_stages(axes, bayes, theme)


def _both(run: Run) -> tuple[list[tuple[float, Record]], list[tuple[float, Record]]]:
    return timeline(run.history, plain=True), timeline(run.history, plain=False)


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
