"""Weights of any layer as one picture: matrices as they are, kernels side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tiling:
    """How a weight ``[out, in, ...]`` is laid out; ``words`` explains it under the picture."""

    shape: tuple[int, ...]
    turned: bool
    columns: int
    words: str

    @property
    def units(self) -> int:
        return self.shape[0]

    @property
    def inputs(self) -> int:
        return self.shape[1]

    @classmethod
    def of(cls, shape: tuple[int, ...]) -> Tiling:
        """The layout of a weight of this shape: the longer side lies across."""
        units, inputs = shape[:2]
        if len(shape) == 2:
            turned = units > inputs
            row, column = ("input", "unit") if turned else ("unit", "input")
            return cls(shape, turned, 0, f"Every row is one {row}, every column one {column}.")
        if inputs == 1:
            return cls(shape, False, _columns(units), "Every tile is the kernel of one unit.")
        turned = units > inputs
        row, column = ("input channel", "unit") if turned else ("unit", "input channel")
        words = (
            f"Every tile is a kernel: a row of tiles is one {row}, a column of tiles one {column}."
        )
        return cls(shape, turned, 0, words)


def tile(weights: NDArray[np.float32], layout: Tiling) -> NDArray[np.float32]:
    """The weights as a matrix; NaN is what is removed, and the gaps between kernels."""
    if weights.ndim == 2:
        return weights.T if layout.turned else weights
    kernels = weights.reshape(*weights.shape[:2], -1, weights.shape[-1])  # [out, in, rows, columns]
    grid: NDArray[np.float32] = kernels
    if layout.columns:
        grid = _in_rows(kernels, layout.columns)
    elif layout.turned:
        grid = kernels.swapaxes(0, 1)
    gapped = np.pad(grid, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    down, across, height, width = gapped.shape
    return gapped.transpose(0, 2, 1, 3).reshape(down * height, across * width)[:-1, :-1]


def _in_rows(kernels: NDArray[np.float32], columns: int) -> NDArray[np.float32]:
    """``[units, 1, h, w]`` in rows of ``columns`` kernels; what is left of the last row is NaN."""
    missing = -len(kernels) % columns
    filled = np.pad(kernels, ((0, missing), (0, 0), (0, 0), (0, 0)), constant_values=np.nan)
    grid: NDArray[np.float32] = filled.reshape(-1, columns, *kernels.shape[2:])
    return grid


def _columns(units: int) -> int:
    """Columns of a grid that is wider than high and leaves few places empty."""
    choices = range(math.ceil(math.sqrt(1.5 * units)), math.isqrt(4 * units) + 1)
    return min(choices, key=lambda c: (-units % c, c), default=units)


def pool(picture: NDArray[np.float32], *, height: int, width: int) -> NDArray[np.float32]:
    """Blocks of a picture that is larger than ``height`` × ``width``, by their largest weight.

    A block is NaN (removed) when more than half of it is. Smaller pictures come back unchanged.
    """
    down, across = -(-picture.shape[0] // height), -(-picture.shape[1] // width)
    if down == across == 1:
        return picture
    padded = np.pad(
        picture,
        ((0, -picture.shape[0] % down), (0, -picture.shape[1] % across)),
        mode="edge",
    )
    rows, columns = padded.shape[0] // down, padded.shape[1] // across
    split = padded.reshape(rows, down, columns, across).transpose(0, 2, 1, 3)
    blocks = split.reshape(rows, columns, down * across)
    gone = np.isnan(blocks)
    largest = np.abs(np.where(gone, 0, blocks)).argmax(axis=2)[..., None]
    chosen = np.take_along_axis(np.where(gone, 0, blocks), largest, axis=2)[..., 0]
    return np.where(gone.mean(axis=2) > 0.5, np.nan, chosen).astype(np.float32)
