"""The cosine transform of kernels: orthonormal, exact in integers, and back again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.fft import idctn

from epigram import cosine
from epigram.maths.cosine import coefficients_of, kernels_of
from epigram.records import CodedTensor


@pytest.mark.parametrize("places", [2, 3, 5, 7, 16])
def test_tables_are_all_but_orthonormal(places: int) -> None:
    found = cosine.table(places) * 2.0**-cosine.BITS
    np.testing.assert_allclose(found @ found.T, np.eye(places), atol=places * 2.0**-cosine.BITS)


def test_values_are_those_of_the_inverse_transform() -> None:
    symbols = np.random.default_rng(0).integers(-9, 9, (4, 3, 5, 3)).astype(np.int32)
    tensor = CodedTensor("w", symbols.shape, symbols, 0.25, cosine=True)
    expected = idctn(0.25 * symbols, axes=(2, 3), norm="ortho")
    np.testing.assert_allclose(tensor.values(), expected, atol=1e-3)
    assert tensor.values().dtype == np.float32


def test_training_and_a_reader_compute_the_same_kernels_to_the_bit() -> None:
    symbols = np.random.default_rng(1).integers(-200, 200, (7, 5, 5, 5)).astype(np.int32)
    step = 0.6875 * 2.0**-5
    read = CodedTensor("w", symbols.shape, symbols, step, cosine=True).values()
    with torch.autocast("cpu", torch.bfloat16):
        trained = kernels_of(step * torch.from_numpy(symbols).float())
    assert torch.equal(trained, torch.from_numpy(read))


def test_there_and_back() -> None:
    kernels = torch.randn(6, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(kernels_of(coefficients_of(kernels)), kernels, atol=2e-4)
    symbols = np.arange(2 * 3 * 5 * 4).reshape(2, 3, 5, 4)
    told = cosine.by_frequency(symbols)
    assert told.shape == (2, 20, 3) and told[0, :4, 0].tolist() == [0, 1, 4, 2]
    assert (cosine.from_frequency(told, symbols.shape) == symbols).all()


def test_what_has_kernels() -> None:
    assert cosine.has_kernels((8, 1, 3, 16)) and not cosine.has_kernels((8, 4, 1, 1))
    assert not cosine.has_kernels((8, 4, 17, 3)) and not cosine.has_kernels((8, 4, 3))
