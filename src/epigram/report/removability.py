"""Histograms of removability, one per group, with the cut between what stays and what goes."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from epigram.report.folder import Run
from epigram.report.plates import Absent, Plate
from epigram.report.style import Theme, new_figure
from epigram.report.words import group_name, plain_number

MOST_GROUPS = 12
PREFIX = "removability/"


def histograms(run: Run) -> Plate | Absent:
    """Removability per group; kept units on one side of the cut, removed ones on the other."""
    title = "How removable each unit was"
    values = _by_group(run)
    if not values:
        return Absent(title, "No removability was recorded, so there are no histograms of it.")
    cut = _cut(run)
    shown = dict(list(values.items())[:MOST_GROUPS])

    def draw(theme: Theme) -> Figure:
        columns = 1 if len(shown) <= 3 else 2
        rows = -(-len(shown) // columns)
        figure = new_figure(height=0.5 + 1.6 * rows)
        grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
        edges = _edges(list(shown.values()), cut)
        for axes in grid.flat[len(shown) :]:
            axes.set_visible(False)
        for axes, (group, amounts) in zip(grid.flat, shown.items(), strict=False):
            _panel(axes, group, amounts, edges, cut, theme)
        figure.supxlabel("removability (to the right: more clearly noise)", fontsize=9.5)
        return figure

    more = (
        f" The first {MOST_GROUPS} of {len(values)} groups are drawn."
        if len(values) > MOST_GROUPS
        else ""
    )
    where = (
        ""
        if cut is None
        else f" The line is the cut, {plain_number(cut, digits=3)}: blue units stay, orange ones were taken out."
    )
    caption = f"Every unit counted once, at its last value; two separate hills mean that the choice was easy.{where}{more}"
    return Plate(
        "removability",
        title,
        caption,
        "Histograms of removability per group, with the cut marked.",
        draw,
    )


def _by_group(run: Run) -> dict[str, NDArray[np.float64]]:
    found: dict[str, NDArray[np.float64]] = {}
    for name, array in run.data.items():
        if name.startswith(PREFIX) and np.issubdtype(array.dtype, np.number):
            amounts = np.asarray(array, dtype=np.float64).ravel()
            if np.isfinite(amounts).any():
                found[name.removeprefix(PREFIX)] = amounts
    return found


def _cut(run: Run) -> float | None:
    array = run.data.get("cut")
    if array is None or array.size != 1 or not np.issubdtype(array.dtype, np.number):
        return None
    value = float(np.asarray(array, dtype=np.float64).reshape(()))
    return value if np.isfinite(value) else None


def _edges(values: list[NDArray[np.float64]], cut: float | None) -> NDArray[np.float64]:
    """Common bins for all panels; the cut is one of the edges, so no bar has two colours."""
    everything = np.concatenate(values)
    everything = everything[np.isfinite(everything)]
    low, high = float(everything.min()), float(everything.max())
    if cut is not None:
        low, high = min(low, cut), max(high, cut)
    width = max(high - low, 1e-6) / 40
    origin = low if cut is None else cut
    first, last = np.floor((low - origin) / width), np.ceil((high - origin) / width)
    return np.asarray(origin + width * np.arange(first, max(last, first + 1) + 1), dtype=np.float64)


def _panel(
    axes: Axes,
    group: str,
    amounts: NDArray[np.float64],
    edges: NDArray[np.float64],
    cut: float | None,
    theme: Theme,
) -> None:
    present = amounts[np.isfinite(amounts)]
    earlier = len(amounts) - len(present)
    kept = present if cut is None else present[present <= cut]
    gone = present[:0] if cut is None else present[present > cut]
    axes.hist(kept, bins=edges.tolist(), color=theme.bayes, rwidth=0.9)
    axes.hist(gone, bins=edges.tolist(), color=theme.removed, rwidth=0.9)
    words = f"{group_name(group)}: {len(present)}"
    if cut is not None:
        axes.axvline(cut, color=theme.ink, linewidth=1.3)
        words = f"{group_name(group)}: {len(kept)} stay, {len(gone)} go"
    if earlier:
        words += f", {earlier} had left before"
    axes.set_title(words, fontsize=8.5)
    axes.set_ylabel("number")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4, min_n_ticks=1))
    axes.grid(visible=False, axis="x")
