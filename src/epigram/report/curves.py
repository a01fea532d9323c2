"""Curves over the epochs: read from a run's history, and drawn on axes that tell its stages apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from epigram.report.folder import Record, number
from epigram.report.style import Theme

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
