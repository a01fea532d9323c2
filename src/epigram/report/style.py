"""The look of every picture: two themes, one font, colours that colour-blind people tell apart.

Pictures are drawn on an Agg canvas through matplotlib's objects; its global state is set for the time
of a drawing and restored. The same data gives the same bytes: no time stamps, no versions in the file.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from PIL import Image

WIDTH = 4.6  # inches: 10 pt is then about 14 px on a desktop card and still 10 px on a phone
DPI = 200


@dataclass(frozen=True)
class Theme:
    """The colours of a page and its pictures (hex). The hues follow Okabe and Ito (2008)."""

    name: str
    surface: str
    ink: str
    muted: str
    grid: str
    plain: str
    bayes: str
    removed: str
    third: str
    cycle: tuple[str, ...]


LIGHT = Theme(
    name="light",
    surface="#ffffff",
    ink="#20242b",
    muted="#5d6570",
    grid="#e4e4e0",
    plain="#7a828c",
    bayes="#0069a8",
    removed="#e08a3c",
    third="#008a66",
    cycle=("#0069a8", "#d55e00", "#008a66", "#b8559a", "#b88600", "#4aa3d8", "#20242b"),
)
DARK = Theme(
    name="dark",
    surface="#1b1e24",
    ink="#e8e8e4",
    muted="#a3abb6",
    grid="#343a43",
    plain="#9aa3ae",
    bayes="#5bb4f0",
    removed="#f0a35e",
    third="#45c9a4",
    cycle=("#5bb4f0", "#ff9455", "#45c9a4", "#e59ccb", "#e8c04a", "#a8d8ff", "#e8e8e4"),
)
THEMES = (LIGHT, DARK)


def _settings(theme: Theme) -> dict[str, Any]:
    return {
        "font.family": ["DejaVu Sans"],
        "font.size": 10.0,
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": 9.5,
        "axes.labelcolor": theme.muted,
        "axes.edgecolor": theme.muted,
        "axes.facecolor": theme.surface,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.8,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": theme.grid,
        "grid.linewidth": 0.8,
        "figure.facecolor": theme.surface,
        "legend.frameon": False,
        "legend.fontsize": 9.0,
        "lines.linewidth": 1.8,
        "lines.solid_capstyle": "round",
        "patch.linewidth": 0.0,
        "text.color": theme.ink,
        "xtick.color": theme.muted,
        "ytick.color": theme.muted,
        "xtick.labelsize": 9.0,
        "ytick.labelsize": 9.0,
        "xtick.major.size": 0.0,
        "ytick.major.size": 0.0,
        "ytick.minor.size": 0.0,
        "xtick.minor.size": 0.0,
    }


@contextmanager
def drawing(theme: Theme) -> Iterator[None]:
    """Draw and save in our style, whatever the user's own settings are; they are restored."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(cast(Any, _settings(theme)))
        yield


def new_figure(*, height: float, width: float = WIDTH) -> Figure:
    """An empty figure (inches), laid out so that nothing overlaps."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def bare(axes: Axes) -> None:
    """No frame, no ticks, no grid: for pictures inside a figure."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def frame(axes: Axes, theme: Theme) -> None:
    """A hairline around a picture whose edge has the colour of the page."""
    for spine in axes.spines.values():
        spine.set(visible=True, color=theme.grid, linewidth=0.8)


def log_ticks(
    axis: Axis, say: Callable[[float], str], *, limits: tuple[float, float] | None = None
) -> None:
    """Label a logarithmic axis at 1, 2 and 5 of every decade; more or fewer as its length asks."""
    low, high = limits or axis.get_view_interval()
    decades = math.log10(high / low) if 0 < low < high else 1.0
    steps: tuple[float, ...] = (1.0,) if decades > 2.5 else (1.0, 2.0, 5.0)
    if decades < 0.9:
        steps = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)
    axis.set_major_locator(LogLocator(subs=steps, numticks=12))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: say(value)))


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


def png(figure: Figure) -> bytes:
    """The figure as a small palette PNG; the same figure gives the same bytes."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    picture = Image.fromarray(pixels).convert("RGB")
    packed = io.BytesIO()
    picture.quantize(256, dither=Image.Dither.NONE).save(packed, format="PNG", optimize=True)
    return packed.getvalue()


def importance_map(theme: Theme) -> LinearSegmentedColormap:
    """From the surface (the network does not look here) to a strong orange."""
    if theme is DARK:
        stops = ["#1b1e24", "#6b3b1c", "#d9752a", "#ffd08f"]
    else:
        stops = ["#ffffff", "#ffd9a8", "#f08f35", "#a64400"]
    return LinearSegmentedColormap.from_list(f"importance-{theme.name}", stops, N=256)


def weight_colours(levels: int) -> list[tuple[int, int, int]]:
    """``levels`` colours from blue (negative) over near-black (zero) to orange (positive), 0..255.

    The centre is dark because white is taken: it means *removed*.
    """
    stops = ["#8cc8ff", "#2f86dd", "#173f6e", "#12151c", "#70350f", "#dd7420", "#ffc27d"]
    colours = LinearSegmentedColormap.from_list("weights", stops, N=levels)
    return [
        (round(255 * r), round(255 * g), round(255 * b))
        for r, g, b, _ in (colours(i) for i in range(levels))
    ]
