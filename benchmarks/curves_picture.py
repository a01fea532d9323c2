"""The picture of ``curves.py``: accuracy above, NLL below, a column per network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from epigram.report.style import LIGHT, drawing, log_ticks, new_figure, png

COLUMNS = {
    "plain": "Plain",
    "bayesian-random": "Bayesian, from random weights",
    "bayesian-pretrained": "Bayesian, from the plain network",
    "bayesian-shrinking": "The same, losing units",
    "bayesian-low-kl": "Bayesian, KL weight 0.1",
}
COLOURS = {"decay": LIGHT.bayes, "constant": LIGHT.removed}
LABELS = {"decay": "learning rate decays", "constant": "learning rate constant"}
SOLID, DASHED = (0.0, ()), (0.0, (3.0, 1.6))
PARTS: Mapping[str, tuple[float, Sequence[float]]] = {"validation": SOLID, "fitted": DASHED}
PART_LABELS = {"validation": "validation images", "fitted": "fitted images"}

Curves = Mapping[str, Sequence[Mapping[str, Any]]]


def draw(curves: Curves) -> bytes:
    """A PNG: medians as lines, the range over the seeds as bands."""
    columns = {
        network: title
        for network, title in COLUMNS.items()
        if any(name.startswith(f"{network}-") for name in curves)
    }
    with drawing(LIGHT):
        figure = new_figure(width=3.5 * len(columns), height=6.4)
        rows = figure.subplots(2, len(columns), sharex=True, sharey="row", squeeze=False)
        for column, (network, title) in enumerate(columns.items()):
            rows[0][column].set_title(title)
            for row, quantity in enumerate(("accuracy", "nll")):
                _panel(rows[row][column], curves, network, quantity)
            rows[1][column].set_xlabel("epochs")
        _accuracy_axis(rows[0][0], curves)
        _nll_axis(rows[1][0])
        _legend(figure)
        return png(figure)


def _panel(axes: Axes, curves: Curves, network: str, quantity: str) -> None:
    for schedule, colour in COLOURS.items():
        runs = curves.get(f"{network}-{schedule}", [])
        for part, style in PARTS.items():
            values = np.array([run[f"{part}_{quantity}"] for run in runs], dtype=np.float64)
            if not values.size:
                continue
            if quantity == "accuracy":
                values = 100.0 * values
            epochs = np.arange(values.shape[1])
            strong = part == "validation"
            axes.plot(
                epochs,
                np.median(values, axis=0),
                color=colour,
                linestyle=style,
                linewidth=1.9 if strong else 1.3,
            )
            low, high = values.min(axis=0), values.max(axis=0)
            axes.fill_between(epochs, low, high, color=colour, alpha=0.16, linewidth=0.0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def _accuracy_axis(axes: Axes, curves: Curves) -> None:
    """From a little below where things settle: the first epochs may leave the picture below."""
    settled = [
        100.0 * min(run["validation_accuracy"][len(run["validation_accuracy"]) // 3 :])
        for runs in curves.values()
        for run in runs
    ]
    low = min(settled)
    axes.set_ylim(max(0.0, low - 0.25 * (100.0 - low)), 100.0 + 0.03 * (100.0 - low))
    axes.set_ylabel("accuracy")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))


def _nll_axis(axes: Axes) -> None:
    axes.set_yscale("log")
    log_ticks(axes.yaxis, "{:g}".format)
    axes.set_ylabel("NLL, nats per image")


def _legend(figure: Figure) -> None:
    handles = [
        *(Line2D([], [], color=colour, label=LABELS[key]) for key, colour in COLOURS.items()),
        *(
            Line2D(
                [],
                [],
                color=LIGHT.muted,
                linestyle=style,
                linewidth=1.9 if key == "validation" else 1.3,
                label=PART_LABELS[key],
            )
            for key, style in PARTS.items()
        ),
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=4, handlelength=2.2)
