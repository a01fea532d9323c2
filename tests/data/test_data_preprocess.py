"""Normalisation against plain arithmetic in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from epigram.data import Preprocess
from epigram.errors import ConfigError, DataError


def test_uint8_is_divided_by_255_then_normalised_per_channel() -> None:
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    x = torch.randint(0, 256, (5, 3, 4, 2), dtype=torch.uint8)
    raw = x.numpy().astype(np.float64) / 255
    expected = (raw - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    out = Preprocess(mean, std)(x)
    assert out.dtype == torch.float32
    assert out.is_contiguous()
    # a few roundings of numbers below 4: 4 * 2**-24 * 3
    np.testing.assert_allclose(out.numpy(), expected, rtol=0, atol=1e-6)


def test_floats_are_normalised_as_they_are_and_not_changed() -> None:
    x = torch.tensor([[1.0, -3.0]], dtype=torch.float64)
    kept = x.clone()
    assert Preprocess(1.0, 2.0)(x).tolist() == [[0.0, -2.0]]
    single = x.float()
    Preprocess(1.0, 2.0)(single)
    assert torch.equal(x, kept)
    assert torch.equal(single, kept.float())


def test_vectors_and_strided_views() -> None:
    x = torch.arange(12, dtype=torch.uint8).view(3, 4)
    process = Preprocess([0.1] * 3, [0.5] * 3)
    assert torch.equal(process(x.T), process(x.T.contiguous()))


def test_a_batch_gets_the_same_bits_as_its_rows() -> None:
    x = torch.randint(0, 256, (37, 1, 5, 5), dtype=torch.uint8)
    process = Preprocess(0.1307, 0.3081)
    assert torch.equal(process(x), torch.cat([process(row[None]) for row in x]))


def test_leaves_nothing_in_a_state_dict() -> None:
    process = Preprocess(0.1, 0.2)
    assert process.state_dict() == {}
    assert list(process.parameters()) == []
    assert "mean=(0.1,)" in repr(process)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        (0.1, 0.0, "expected positive"),
        (0.1, -1.0, "expected positive"),
        (0.1, float("nan"), "expected positive"),
        ([0.1, 0.2], [1.0], "2 means and 1"),
    ],
)
def test_refuses_settings(mean: float, std: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Preprocess(mean, std)


@pytest.mark.parametrize("shape", [(4, 3, 2, 2), (4,)])
def test_refuses_other_channel_counts(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="expected 2 channels"):
        Preprocess([0.1, 0.1], [1.0, 1.0])(torch.zeros(shape))
