"""Kernels of a checkpoint, packed as weights or as coefficients of their cosine transform."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from epigram import codec
from epigram.cosine import has_kernels, transform
from epigram.quantize.post_training import Trellis, pack_tensor
from epigram.records import CodedTensor, FileContents

TRELLIS = Trellis(codec.TRELLIS_MOVES, codec.representable_step)

Weights = NDArray[np.float64]


def smooth(size: int, seed: int = 0) -> Weights:
    """Kernels whose lowest frequencies are the largest."""
    fall = 1.0 / (1.0 + np.add.outer(np.arange(size), np.arange(size)) ** 2)
    drawn = np.random.default_rng(seed).normal(size=(16, 12, size, size)) * fall
    weights: Weights = transform(size).T @ drawn @ transform(size)
    return weights


def packed(values: Weights, step: float, **how: Weights) -> CodedTensor:
    tensor = pack_tensor("w", values, step=step, trellis=TRELLIS, **how)  # type: ignore[arg-type]
    assert isinstance(tensor, CodedTensor)
    return tensor


def size(tensor: CodedTensor) -> int:
    return len(codec.encode(FileContents((tensor,)), profile="named"))


@pytest.mark.parametrize("places", [2, 3, 5])
def test_smooth_kernels_are_coefficients_in_fewer_bytes_and_with_less_error(places: int) -> None:
    values = smooth(places)
    step = float(np.sqrt(np.square(values).mean()))
    by_frequency = packed(values, step)
    as_weights = packed(values.reshape(16, -1), step)
    assert by_frequency.cosine and not as_weights.cosine
    assert size(by_frequency) < 0.95 * size(as_weights)
    lost = [
        float(np.square(values - t.values().reshape(values.shape)).sum())
        for t in (by_frequency, as_weights)
    ]
    assert lost[0] < lost[1]
    read = codec.decode(codec.encode(FileContents((by_frequency,)), profile="named"))
    assert np.array_equal(read.tensors[0].values(), by_frequency.values())


def test_kernels_without_a_low_frequency_stay_weights() -> None:
    """Here each place has a size of its own, in no order that a frequency would know."""
    values = np.random.default_rng(0).normal(size=(32, 16, 3, 3))
    values *= np.eye(3) * 5 + 0.02
    assert not packed(values, 0.5).cosine


@pytest.mark.parametrize("shape", [(8, 6, 1, 1), (8, 6, 1, 3), (8, 6, 3), (8, 54), (8, 6, 17, 2)])
def test_what_has_no_kernels_stays_weights(shape: tuple[int, ...]) -> None:
    assert not has_kernels(shape)
    values = np.cumsum(np.random.default_rng(0).normal(size=shape), axis=-1)
    assert not packed(values, 0.5).cosine


def test_the_error_is_that_of_the_coefficients() -> None:
    """The transform is orthonormal up to the rounding of its tables."""
    values = smooth(4)
    tensor = packed(values, 0.3)
    coefficients = transform(4) @ values @ transform(4).T
    apart = np.square(coefficients - tensor.step_size * tensor.symbols).sum()
    assert np.square(values - tensor.values()).sum() == pytest.approx(apart, rel=1e-3)


def test_a_precision_lowers_the_error_that_it_weighs() -> None:
    values = smooth(3)
    matters = np.exp(3.0 * np.random.default_rng(1).normal(size=(16, 12, 1, 1)))
    precision = np.broadcast_to(matters / matters.mean(), values.shape)

    def weighed(tensor: CodedTensor) -> float:
        return float((precision * np.square(values - tensor.values())).sum())

    plain, told = packed(values, 0.5), packed(values, 0.5, precision=precision)
    assert plain.cosine and told.cosine
    assert weighed(told) < weighed(plain)


def test_a_step_much_too_fine_does_not_overflow() -> None:
    """A constant kernel's one coefficient is as many times its weights as it has places along an axis."""
    values = np.full((4, 4, 16, 16), 1.0)
    tensor = packed(values, 2.0**-40)
    assert tensor.cosine
    assert np.abs(tensor.values() - values).max() < 1e-6
