"""Weight movies: the weights of a layer over the epochs; what is removed turns white.

The frames of one movie share one palette and one colour scale. Large layers are pooled (the largest
weight of a block stands for it; a block is white when most of it is removed), small ones enlarged, so
that a movie of a hundred epochs stays well below a megabyte.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from epigram.report.folder import Frame, Run, read_arrays
from epigram.report.gif import encode
from epigram.report.plates import Absent, Movie
from epigram.report.style import weight_colours
from epigram.report.tiling import Tiling, pool, tile

LEVELS = 13  # odd: the middle one is zero
WHITE = LEVELS
GREYS = 6
HOLD = 0.75
"""A pixel keeps its colour until its weight has moved by this share of a colour step: no flicker."""
MOST_FRAMES = 60
FEWEST_FRAMES = 8
BUDGET_BYTES = 800_000
MAP_WIDTH = 800
MAP_HEIGHT = 420
MARGIN = 12
STRIP = 46
"""Pixels above the map (label) and below it (colour scale)."""


@dataclass(frozen=True)
class _Shot:
    """One frame: the label in its parts and the tiled weights."""

    stage: str
    epoch: int
    weights: NDArray[np.float32]
    rows_left: int
    columns_left: int


def movie(run: Run, layer: str) -> Movie | Absent:
    """The movie of ``layer`` ("first" or "second").

    The number of frames is lowered until the GIF fits its budget.
    """
    title = f"The {layer} layer's weights, epoch by epoch"
    if not run.frames:
        return Absent(title, "No frames of the weights were kept, so there is no weight movie.")
    frames = _spread(run.frames, MOST_FRAMES)
    shots, layout = _shots(frames, layer)
    if layout is None:
        return Absent(title, f"The kept frames hold no weights of the {layer} layer.")
    limit = _scale(shots)
    keep = len(shots)
    while True:
        chosen = [shots[i] for i in _places(len(shots), keep)]
        images = _paint(chosen, layout, limit)
        content = encode(images, _palette(), delays_ms=_pace(len(images)))
        if len(content) <= BUDGET_BYTES or keep <= FEWEST_FRAMES:
            break
        keep = max(FEWEST_FRAMES, min(keep - 1, int(0.95 * keep * BUDGET_BYTES / len(content))))
    still = _still(images[-1])
    return Movie(
        stem=f"weights-{layer}",
        title=title,
        caption=_caption(layout, shots[-1], frames=len(images), of=len(run.frames)),
        alt=f"Animation of the {layer} layer's weights over {len(run.frames)} epochs; removed parts turn white.",
        gif=content,
        still=still,
        size=(images[0].shape[1], images[0].shape[0]),
    )


def _caption(layout: Tiling, last: _Shot, *, frames: int, of: int) -> str:
    kept = f"In the last frame {last.rows_left} of {layout.units} units are left"
    if layout.inputs > 1:
        kept += f", reading {last.columns_left} of {layout.inputs} inputs"
    if last.rows_left == layout.units and last.columns_left == layout.inputs:
        kept = "Nothing was removed"
    some = "" if frames == of else f" {frames} of {of} epochs are shown."
    return f"{layout.words} Blue is negative, orange positive, near-black zero; white is removed. {kept}.{some}"


def _places(count: int, keep: int) -> list[int]:
    """``keep`` of ``count`` places, evenly spread, the first and the last among them."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(keep, count))})


def _spread(frames: tuple[Frame, ...], keep: int) -> list[Frame]:
    return [frames[i] for i in _places(len(frames), keep)]


def _shots(frames: list[Frame], layer: str) -> tuple[list[_Shot], Tiling | None]:
    """Frames of the shape of the first readable one, tiled and pooled."""
    shots: list[_Shot] = []
    layout: Tiling | None = None
    for frame in frames:
        array = read_arrays(frame.path, [], names=[layer]).get(layer)
        if array is None or array.ndim < 2 or not np.issubdtype(array.dtype, np.floating):
            continue
        weights = array.astype(np.float32)
        if layout is None:
            layout = Tiling.of(weights.shape)
        if weights.shape != layout.shape:
            continue
        kernels = weights.reshape(weights.shape[0], weights.shape[1], -1)
        present: NDArray[np.bool_] = ~np.all(np.isnan(kernels), axis=2)
        small = pool(tile(weights, layout), height=MAP_HEIGHT, width=MAP_WIDTH)
        rows, columns = int(np.any(present, axis=1).sum()), int(np.any(present, axis=0).sum())
        shots.append(_Shot(frame.stage, frame.epoch, small, rows, columns))
    return shots, layout if shots else None


def _scale(shots: list[_Shot]) -> float:
    """One limit for the whole movie: all but the largest half per cent of the weights lie within."""
    step = max(1, len(shots) // 12)
    sizes = np.concatenate([np.abs(s.weights[~np.isnan(s.weights)]) for s in shots[::step]])
    limit = float(np.quantile(sizes, 0.995)) if sizes.size else 0.0
    return limit or 1.0


def _paint(shots: list[_Shot], layout: Tiling, limit: float) -> list[NDArray[np.uint8]]:
    """Palette indices of all frames."""
    half = LEVELS // 2
    images: list[NDArray[np.uint8]] = []
    held: NDArray[np.float32] | None = None
    for shot in shots:
        exact = np.clip(shot.weights / np.float32(limit), -1, 1) * half
        levels = np.rint(exact)
        if held is not None:
            levels = np.where(np.abs(exact - held) < HOLD, held, levels)
        held = levels
        indices = np.where(np.isnan(levels), WHITE, np.nan_to_num(levels) + half).astype(np.uint8)
        images.append(_frame(_enlarged(indices, layout), shot, layout, limit))
    return images


def _enlarged(indices: NDArray[np.uint8], layout: Tiling) -> NDArray[np.uint8]:
    """The map as large as it may be; kernels by whole factors, so that all their gaps are alike."""
    height, width = indices.shape
    zoom = min(MAP_WIDTH / width, MAP_HEIGHT / height)
    if zoom >= 4 or len(layout.shape) > 2:
        zoom = max(1, int(zoom))
    rows = (np.arange(int(height * zoom)) / zoom).astype(int)
    columns = (np.arange(int(width * zoom)) / zoom).astype(int)
    enlarged: NDArray[np.uint8] = indices[rows][:, columns]
    return enlarged


def _frame(
    indices: NDArray[np.uint8], shot: _Shot, layout: Tiling, limit: float
) -> NDArray[np.uint8]:
    """The map with its label above and the colour scale below."""
    height, width = indices.shape
    whole = MAP_WIDTH + 2 * MARGIN
    canvas = np.full((height + 2 * STRIP + MARGIN, whole), WHITE, dtype=np.uint8)
    left = (whole - width) // 2
    canvas[STRIP - 2 : STRIP + height + 2, left - 2 : left + width + 2] = WHITE + 1
    canvas[STRIP - 1 : STRIP + height + 1, left - 1 : left + width + 1] = WHITE
    canvas[STRIP : STRIP + height, left : left + width] = indices
    _write(canvas, f"{shot.stage}, epoch {shot.epoch}", x=MARGIN, y=8)
    left_over = f"{shot.rows_left} of {layout.units} units left"
    _write(canvas, left_over, x=whole - MARGIN, y=8, right=True)
    _legend(canvas, limit, y=STRIP + height + MARGIN)
    return canvas


def _still(indices: NDArray[np.uint8]) -> bytes:
    """A frame as a PNG."""
    image = Image.fromarray(indices)
    image.putpalette(_palette())
    packed = io.BytesIO()
    image.save(packed, format="PNG", optimize=True)
    return packed.getvalue()


def _pace(count: int) -> list[int]:
    """Milliseconds per frame: some nine seconds in all, and a rest on the last."""
    step = min(max(9000 // count, 90), 450)
    return [step] * (count - 1) + [2500]


def _legend(canvas: NDArray[np.uint8], limit: float, *, y: int) -> None:
    """The colour scale with its ends, and what white means."""
    low, cell = f"\u2212{limit:.2g}", 22
    start = MARGIN + _write(canvas, low, x=MARGIN, y=y) + 10
    for level in range(LEVELS):
        canvas[y + 4 : y + 26, start + level * cell : start + (level + 1) * cell] = level
    end = start + LEVELS * cell + 10
    end += _write(canvas, f"+{limit:.2g}", x=end, y=y) + 34
    canvas[y + 4 : y + 26, end : end + 22] = LEVELS + 2
    canvas[y + 5 : y + 25, end + 1 : end + 21] = WHITE
    _write(canvas, "removed", x=end + 32, y=y)


@lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), 20)


def _write(canvas: NDArray[np.uint8], words: str, *, x: int, y: int, right: bool = False) -> int:
    """Write in greys of the palette; returns the width of the words in pixels."""
    width = int(_font().getlength(words)) + 1
    stamp = Image.new("L", (width, 30), 0)
    ImageDraw.Draw(stamp).text((0, 0), words, font=_font(), fill=255)
    shade = np.rint(np.asarray(stamp, dtype=np.float32) / 255 * (GREYS - 1)).astype(np.uint8)
    begin = max(0, x - width if right else x)
    target = canvas[y : y + 30, begin : begin + width]
    shade = shade[: target.shape[0], : target.shape[1]]
    target[shade > 0] = (WHITE + shade)[shade > 0]
    return width


def _palette() -> list[int]:
    """Weight colours, white, and greys down to the ink."""
    greys = [
        tuple(round(255 - (255 - ink) * g / (GREYS - 1)) for ink in (32, 36, 43))
        for g in range(GREYS)
    ]
    return [channel for colour in [*weight_colours(LEVELS), *greys] for channel in colour]
