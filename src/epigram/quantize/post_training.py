"""Any checkpoint's tensors as coded tensors, without training.

Weights (two axes and more) are quantised by the trellis, all at the same step: with equal weights of the error
that is where the least squared error for the bits lies, and with a precision per weight the errors that
matter are the ones that are small. Vectors (biases, normalisation) are few and felt by every output, so
they are told finely. What is not floating-point stays as it is.

Kernels of two-dimensional convolutions are told by the coefficients of their cosine transform where that takes fewer
bits (``epigram.cosine``). The transform is orthonormal, so an error is as large as it was among the weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from epigram.cosine import by_frequency, from_frequency, has_kernels, transform
from epigram.errors import ConfigError
from epigram.quantize.trellis import CodeLengths, Floats, trellis_integers
from epigram.quantize.vectors import told_finely
from epigram.records import CodedTensor, RawTensor

PRICE = 0.1
"""Squared steps of error that a bit may save; between 0.03 and 0.3 it hardly matters."""
_LARGEST = 2**30


@dataclass(frozen=True)
class Trellis:
    """What the quantiser has to know of the file.

    Args:
        moves: the state machine's moves.
        representable_step: rounds a step to one that the file can say.
    """

    moves: Sequence[int]
    representable_step: Callable[[float], float]


def pack_tensor(
    name: str,
    values: NDArray[np.generic],
    *,
    step: float,
    trellis: Trellis,
    precision: Floats | None = None,
    price: float = PRICE,
) -> CodedTensor | RawTensor:
    """One tensor at a step.

    Args:
        name: its name.
        values: any shape and dtype.
        step: of weights; vectors take a finer one of their own.
        trellis: the file's.
        precision: of each squared error, the same shape, about 1 on average over all tensors; None = all
            equal. The tensor's mean moves its step, the rest weighs errors within it; both half-way to equal
            weights, since a diagonal overstates the differences.
        price: squared steps of error for a bit.

    Raises:
        ConfigError: a value is not finite.
    """
    if values.dtype.kind != "f" or not values.ndim or not values.size:
        return RawTensor(name, values.shape, values)
    wide = values.astype(np.float64)
    if not np.isfinite(wide).all():
        raise ConfigError(f"pack: {name} holds a value that is not finite")
    if values.ndim < 2 or not wide.any():
        return told_finely(name, values.shape, wide, trellis.representable_step)
    weight: Floats = np.ones(values.shape)
    if precision is not None:
        mean = float(precision.mean())
        step /= min(max(mean**0.25, 0.5), 2.0)
        weight = 0.5 + 0.5 * precision / mean
    step = trellis.representable_step(step)
    places = math.prod(values.shape[2:]) if has_kernels(values.shape) else 1
    while np.abs(wide).max() * math.sqrt(places) / step > _LARGEST:  # what a coefficient may be
        step = trellis.representable_step(2 * step)
    told = _told(wide, weight, step)
    symbols = trellis_integers(
        told.scaled.ravel(), told.weight.ravel(), told.lengths, price=price, moves=trellis.moves
    )
    return CodedTensor(
        name, values.shape, told.in_place(symbols, values.shape), step, cosine=told.cosine
    )


@dataclass(frozen=True, eq=False)
class _Told:
    """Numbers in the order in which a file says them: ``[out, in, rest]``, or ``[out, frequency, in]`` of coefficients.

    Attributes:
        scaled: over the step.
        weight: of each squared error.
        cosine: are they coefficients?
    """

    scaled: Floats
    weight: Floats
    cosine: bool = False

    @cached_property
    def lengths(self) -> CodeLengths:
        """Bits of an index at each place, flat."""
        return CodeLengths.of_mean(self._means.ravel())

    @property
    def bits(self) -> float:
        """What all may take."""
        return float(self.lengths.expected(self._means.ravel()).sum())

    @cached_property
    def _means(self) -> Floats:
        """Mean magnitude of the index at each place, from its row and its column."""
        flat = np.abs(self.scaled / 2)
        overall = flat.mean() + 0.02
        rows = flat.mean((1, 2), keepdims=True) + 0.02
        columns = flat.mean((0, 2), keepdims=True) + 0.02
        means: Floats = np.broadcast_to(np.maximum(rows * columns / overall, 0.01), flat.shape)
        return means

    def in_place(self, symbols: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.int32]:
        """Symbols that were told in this order, as a tensor of ``shape``."""
        narrow = symbols.astype(np.int32)
        return from_frequency(narrow, shape) if self.cosine else narrow.reshape(shape)


def _told(values: Floats, weight: Floats, step: float) -> _Told:
    """As weights or as coefficients, whichever may take fewer bits."""
    shape = (values.shape[0], values.shape[1], -1)
    found = _Told(values.reshape(shape) / step, weight.reshape(shape))
    if not has_kernels(values.shape):
        return found
    tables = [transform(size) for size in values.shape[2:]]
    coefficients = tables[0] @ values @ tables[1].T
    felt = np.square(tables[0]) @ weight @ np.square(tables[1]).T
    other = _Told(by_frequency(coefficients) / step, by_frequency(felt), cosine=True)
    return min(found, other, key=lambda one: one.bits)
