"""Pixel importance: what the first layer still looks at, drawn over sample images."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from epigram.report.folder import Run
from epigram.report.plates import Absent, Plate
from epigram.report.style import DARK, Theme, bare, frame, importance_map, new_figure
from epigram.report.words import grouped

SAMPLES = 10


def importance(run: Run) -> Plate | Absent:
    """The importance map by itself, and under sample images."""
    title = "Where the network looks"
    samples, labels = _samples(run)
    weights = _map(run, samples)
    if weights is None:
        return Absent(
            title,
            "Pixel importance was not recorded (it is for networks that read pixels directly).",
        )

    def draw(theme: Theme) -> Figure:
        rows = -(-len(samples) // 5)
        figure = new_figure(height=3.1 + 1.02 * rows)
        ratios = (3.1, max(1.02 * rows, 0.01))
        top, below = figure.subfigures(2, 1, height_ratios=ratios, squeeze=False)[:, 0]
        axes = top.subplots()
        picture = axes.imshow(
            weights, cmap=importance_map(theme), vmin=0, vmax=max(weights.max(), 1e-12)
        )
        bare(axes)
        frame(axes, theme)
        bar = top.colorbar(picture, ax=axes, location="bottom", shrink=0.55, aspect=26, pad=0.03)
        bar.outline.set_visible(False)
        bar.set_label("importance")
        bar.ax.tick_params(labelsize=8.5)
        if rows:
            grid = below.subplots(rows, 5, squeeze=False)
            for cell in grid.flat:
                bare(cell)
            for cell, image, label in zip(grid.flat, samples, labels, strict=False):
                cell.imshow(_under(image, weights, theme))
                frame(cell, theme)
                cell.set_title(label, fontsize=8.5, fontweight="normal", color=theme.muted, pad=2)
        return figure

    unused = int((weights <= 0).sum())
    count = (
        f" {grouped(unused)} of {grouped(weights.size)} pixels are not read at all."
        if unused
        else ""
    )
    over = (
        " Under the digits the same map: ink on a pale pixel is ink the network ignores."
        if len(samples)
        else ""
    )
    caption = f"The stronger a pixel's colour, the more the first layer makes of it.{count}{over}"
    return Plate(
        "pixels",
        title,
        caption,
        "Heat map of pixel importance, alone and under sample images.",
        draw,
    )


def _map(run: Run, samples: NDArray[np.float64]) -> NDArray[np.float64] | None:
    array = run.data.get("pixel_importance")
    if array is None or not np.issubdtype(array.dtype, np.number) or not array.size:
        return None
    weights = np.nan_to_num(np.asarray(array, dtype=np.float64), nan=0.0)
    if weights.ndim == 2:
        return weights
    height, width = samples.shape[1:] if len(samples) else (math.isqrt(weights.size),) * 2
    return weights.reshape(height, width) if height * width == weights.size else None


def _samples(run: Run) -> tuple[NDArray[np.float64], list[str]]:
    """One image per label where labels are known, else the first ones; values 0..1."""
    array = run.data.get("sample_images")
    if array is None or array.ndim != 3 or not np.issubdtype(array.dtype, np.number):
        return np.zeros((0, 1, 1)), []
    images = np.asarray(array, dtype=np.float64)
    images = images / max(float(images.max(initial=0.0)), 1e-12)
    labels = [str(label) for label in np.asarray(run.data.get("sample_labels", [])).ravel()]
    if len(labels) != len(images):
        return images[:SAMPLES], [""] * min(len(images), SAMPLES)
    first = [labels.index(label) for label in sorted(set(labels))]
    others = [i for i in range(len(labels)) if i not in first]
    chosen = sorted((first + others)[:SAMPLES], key=lambda i: labels[i])
    return images[chosen], [labels[i] for i in chosen]


def _under(
    image: NDArray[np.float64], weights: NDArray[np.float64], theme: Theme
) -> NDArray[np.float64]:
    """The importance map as paper, the image as ink on it."""
    paper = importance_map(theme)(weights / max(float(weights.max()), 1e-12))[..., :3]
    if image.shape != weights.shape:
        return np.repeat((1.0 - image)[..., None], 3, axis=2)
    ink = 1.0 if theme is DARK else 0.05
    strength = 0.88 * image[..., None]
    return np.asarray(paper * (1.0 - strength) + ink * strength, dtype=np.float64)
