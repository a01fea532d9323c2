"""Reliability diagram: does a network that says 90 % keep its word in 90 of 100 cases?"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from epigram.report.folder import Run, number
from epigram.report.plates import Absent, Plate
from epigram.report.style import Theme, new_figure
from epigram.report.words import grouped, plain_number

_KEYS = ("calibration_confidence", "calibration_accuracy", "calibration_count")


def reliability(run: Run) -> Plate | Absent:
    """Accuracy against confidence in bins, and how many examples each bin holds."""
    title = "Does it know what it does not know?"
    bins = _bins(run)
    if bins is None:
        return Absent(title, "Calibration was not measured in this run.")
    confidence, hits, counts = bins

    def draw(theme: Theme) -> Figure:
        figure = new_figure(height=4.7)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.1))
        upper.plot([0, 100], [0, 100], color=theme.muted, linewidth=1.1, linestyle=(0, (3, 2)))
        upper.text(4, 97, "too modest", fontsize=9, color=theme.muted, va="top")
        upper.text(102, 5, "too sure of itself", fontsize=9, color=theme.muted, ha="right")
        upper.vlines(
            100 * confidence, 100 * confidence, 100 * hits, color=theme.removed, linewidth=2.2
        )
        area = 18 + 60 * np.sqrt(counts / counts.max())
        upper.plot(100 * confidence, 100 * hits, color=theme.bayes, linewidth=1.0, alpha=0.5)
        upper.scatter(100 * confidence, 100 * hits, s=area, color=theme.bayes, zorder=3)
        upper.set_ylabel("answers that are right")
        upper.set_ylim(0, 104)
        lower.bar(100 * confidence, counts, width=3.6, color=theme.plain)
        lower.set_yscale("log")
        lower.set_ylabel("images")
        lower.yaxis.set_major_formatter(FuncFormatter(lambda v, _: grouped(v)))
        lower.set_ylim(0.7, 2.2 * float(counts.max()))
        lower.set_xlabel("confidence of the answer")
        lower.set_xlim(0, 104)
        for axes in (upper, lower):
            axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g} %"))
        upper.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g} %"))
        return figure

    error = number(run.result, "test_calibration_error")
    words = (
        "" if error is None else f" Expected calibration error: {plain_number(error, digits=3)}."
    )
    caption = (
        "Above: on the dashed line a confidence of 90 % is right in 90 of 100 cases; below it the network is too "
        f"sure of itself, and the orange gap says by how much. Below: how many of {grouped(counts.sum())} images answer "
        f"with that confidence (logarithmic); points with few images mean little.{words}"
    )
    return Plate(
        "calibration",
        title,
        caption,
        "Reliability diagram with the number of images per bin.",
        draw,
    )


def _bins(run: Run) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None:
    arrays = [
        np.asarray(run.data[key], dtype=np.float64).ravel() for key in _KEYS if key in run.data
    ]
    if len(arrays) < 3 or len({len(array) for array in arrays}) != 1:
        return None
    confidence, hits, counts = arrays
    filled = (counts > 0) & np.isfinite(confidence) & np.isfinite(hits)
    if not filled.any():
        return None
    return confidence[filled], hits[filled], counts[filled]
