"""Weights as one picture: every weight is where the caption says."""

from __future__ import annotations

import numpy as np
import pytest

from epigram.report.tiling import Tiling, pool, tile


def numbered(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def test_wide_matrix_stays_and_tall_one_is_turned() -> None:
    wide, tall = numbered(3, 7), numbered(7, 3)
    np.testing.assert_array_equal(tile(wide, Tiling.of((3, 7))), wide)
    np.testing.assert_array_equal(tile(tall, Tiling.of((7, 3))), tall.T)
    assert "row is one unit" in Tiling.of((3, 7)).words
    assert "row is one input" in Tiling.of((7, 3)).words


@pytest.mark.parametrize("shape", [(4, 6, 3, 2), (6, 4, 3, 2), (6, 4, 5), (4, 6, 2, 3, 2)])
def test_kernels_lie_in_a_grid_with_gaps(shape: tuple[int, ...]) -> None:
    weights = numbered(*shape)
    layout = Tiling.of(shape)
    picture = tile(weights, layout)
    height, width = int(np.prod(shape[2:-1])), shape[-1]
    for out in range(shape[0]):
        for into in range(shape[1]):
            row, column = (into, out) if layout.turned else (out, into)
            top, left = row * (height + 1), column * (width + 1)
            np.testing.assert_array_equal(
                picture[top : top + height, left : left + width],
                weights[out, into].reshape(height, width),
            )
    assert np.isfinite(picture).sum() == weights.size
    assert picture.shape[1] >= picture.shape[0] or shape[0] < shape[1]


@pytest.mark.parametrize("units", [1, 2, 3, 6, 20, 32, 33, 64, 97])
def test_filters_of_one_channel_fill_a_wide_grid(units: int) -> None:
    layout = Tiling.of((units, 1, 5, 5))
    picture = tile(numbered(units, 1, 5, 5), layout)
    assert np.isfinite(picture).sum() == 25 * units
    rows = -(-units // layout.columns)
    assert rows * layout.columns - units < layout.columns
    assert picture.shape == (6 * rows - 1, 6 * layout.columns - 1)


def test_pooling_keeps_the_largest_and_the_majority_of_holes() -> None:
    picture = np.array(
        [[1, -3, 0, 0], [2, 0, 0, np.nan], [5, np.nan, np.nan, np.nan]], dtype=np.float32
    )
    small = pool(picture, height=2, width=2)
    # the third row is repeated to fill its block: a half of it is there on the left, none on the right
    np.testing.assert_array_equal(small, np.array([[-3, 0], [5, np.nan]], dtype=np.float32))


def test_pooling_leaves_what_fits() -> None:
    picture = numbered(5, 9)
    assert pool(picture, height=5, width=9) is picture


@pytest.mark.parametrize("shape", [(1000, 50), (50, 1001), (4096, 4096), (1, 801)])
def test_pooled_pictures_fit(shape: tuple[int, int]) -> None:
    small = pool(np.ones(shape, dtype=np.float32), height=420, width=800)
    assert small.shape[0] <= 420
    assert small.shape[1] <= 800
    assert (small == 1).all()
