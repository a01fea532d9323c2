"""The cosine transform of a convolution's kernels, in integers: every reader decodes the same floats.

A kernel K of height h and width w and its coefficients C: K = T(h)ᵀ · C · T(w), C = T(h) · K · T(w)ᵀ, T(n) the orthonormal
DCT-II of n places. Trained kernels are smooth, so few coefficients say much. In a file C is a step times integers and T is
rounded to 2**-15, so that K is a step times a whole number times 2**-30.

Source: Ahmed, Natarajan, Rao 1974; of kernels, Wang et al. 2016, "CNNpack".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

BITS = 15
UNIT = 2.0 ** (-2 * BITS)
MOST = 16
"""Places of a kernel along an axis."""

Integers = NDArray[np.int64]


@cache
def table(places: int) -> Integers:
    """T(places) times 2**15, rounded: ``[frequency, place]``.

    Example:
        >>> table(2).tolist()
        [[23170, 23170], [23170, -23170]]
    """
    found = np.empty((places, places), dtype=np.int64)
    for k in range(places):
        size = math.sqrt((2 if k else 1) / places) * 2**BITS
        for i in range(places):
            found[k, i] = round(size * math.cos(math.pi * (2 * i + 1) * k / (2 * places)))
    found.flags.writeable = False
    return found


def transform(places: int) -> NDArray[np.float64]:
    """T(places), as the table has it."""
    out: NDArray[np.float64] = table(places) / 2**BITS
    return out


def has_kernels(shape: Sequence[int]) -> bool:
    """Are these the weights of a two-dimensional convolution, their kernels of 2 to 16 places along both axes?"""
    return len(shape) == 4 and all(2 <= size <= MOST for size in shape[2:])


def kernels(coefficients: NDArray[np.int32]) -> Integers:
    """The kernels in units of 2**-30 steps, exactly (modulo 2**64, which only a hostile file comes near)."""
    height, width = (table(size) for size in coefficients.shape[2:])
    out: Integers = height.T @ coefficients.astype(np.int64) @ width
    return out


def by_frequency(coefficients: NDArray[Any]) -> NDArray[Any]:
    """``[out, in, height, width]`` as ``[out, frequency, in]``, low frequencies first: the order in a file."""
    out, into, height, width = coefficients.shape
    flat = coefficients.reshape(out, into, height * width)
    return np.ascontiguousarray(flat[:, :, _order(height, width)].transpose(0, 2, 1))


def from_frequency(told: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """The inverse of ``by_frequency``; ``shape`` is that of the coefficients."""
    out, into, height, width = shape
    found = np.empty((out, into, height * width), dtype=told.dtype)
    found[:, :, _order(height, width)] = told.reshape(out, height * width, into).transpose(0, 2, 1)
    return found.reshape(shape)


@cache
def _order(height: int, width: int) -> Integers:
    """Flat places of the frequencies (i, j), by i + j, then by i."""
    places = [(i, j) for i in range(height) for j in range(width)]
    places.sort(key=lambda place: (sum(place), place[0]))
    return np.array([i * width + j for i, j in places], dtype=np.int64)
