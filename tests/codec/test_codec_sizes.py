"""How many bytes a network like LeNet-5 takes, part by part, against what is possible."""

from __future__ import annotations

import math

import numpy as np
import pytest

from epigram import codec
from epigram.records import CodedTensor, FileContents

# name, dense shape, small shape, mixture of two Laplace distributions: weight, narrow, wide
LENET = [
    ("conv1.weight", (20, 1, 5, 5), (8, 1, 5, 5), (0.4, 1.0, 3.0)),
    ("conv1.bias", (20,), (8,), (0.5, 3.0, 6.0)),
    ("conv2.weight", (50, 20, 5, 5), (13, 8, 5, 5), (0.6, 0.5, 1.6)),
    ("conv2.bias", (50,), (13,), (0.5, 3.0, 6.0)),
    ("fc1.weight", (500, 800), (13, 208), (0.6, 0.7, 2.0)),
    ("fc1.bias", (500,), (13,), (0.5, 3.0, 6.0)),
    ("fc2.weight", (10, 500), (10, 13), (0.5, 1.5, 3.0)),
    ("fc2.bias", (10,), (10,), (0.5, 3.0, 6.0)),
]
LIVE = 88


def lenet(seed: int) -> tuple[FileContents, float]:
    """Contents, and the code length in bytes under the distributions that made them."""
    rng, tensors, bits = np.random.default_rng(seed), [], 0.0
    for name, dense, small, (weight, narrow, wide) in LENET:
        scale = np.where(rng.random(small) < weight, narrow, wide)
        symbols = np.rint(rng.laplace(0.0, scale)).astype(np.int32)
        live = None
        if name == "fc1.weight":
            live = np.zeros(208, dtype=np.bool_)
            live[rng.choice(208, LIVE, replace=False)] = True
            symbols[:, ~live] = 0
            bits += math.log2(math.comb(208, LIVE))
        for symbol in (symbols if live is None else symbols[:, live]).ravel().tolist():
            bits -= math.log2(weight * _mass(symbol, narrow) + (1 - weight) * _mass(symbol, wide))
        tensors.append(CodedTensor(name, dense, symbols, codec.representable_step(0.05), live))
    return FileContents(tuple(tensors)), bits / 8


def _mass(symbol: int, scale: float) -> float:
    near, far = abs(symbol) - 0.5, abs(symbol) + 0.5
    if symbol == 0:
        return 1 - math.exp(-0.5 / scale)
    return 0.5 * (math.exp(-near / scale) - math.exp(-far / scale))


@pytest.mark.parametrize("seed", range(3))
def test_a_small_network_costs_what_it_must(seed: int) -> None:
    contents, ideal = lenet(seed)
    data = codec.encode(contents)
    dense = {tensor.name: tensor.dense_shape for tensor in contents.tensors}
    parts = codec.breakdown(data, dense_shapes=dense)
    assert parts.total == len(data)
    assert parts.before_tables <= 24
    assert parts.scales <= 2 * len(LENET)
    # whoever knew the distributions would need `ideal`; learning them costs at most 2 %
    written = parts.live + sum(parts.symbols.values()) + sum(parts.biases.values())
    assert 0.98 * ideal <= written <= 1.02 * ideal
    assert abs(codec.size_estimate(contents).total - len(data)) <= 2
    assert list(parts.symbols) == [name for name, _, small, _ in LENET if len(small) > 1]


@pytest.mark.parametrize("seed", range(3))
def test_the_quick_size_is_at_most_a_twelfth_above(seed: int) -> None:
    contents, _ = lenet(seed)
    whole, quick = (codec.size_estimate(contents, quick=one).total for one in (False, True))
    assert whole <= quick <= whole * 13 / 12


def test_dead_positions_do_not_keep_a_writer_from_looking_for_the_shortest_model() -> None:
    rng = np.random.default_rng(0)
    scales = rng.gamma(0.5, 2.0, (90, 1)) * rng.gamma(0.5, 2.0, 784)
    symbols = np.rint(rng.laplace(0.0, scales * 0.4)).astype(np.int32)
    live = rng.random(784) < 0.2
    symbols[:, ~live] = 0
    assert symbols.size > 1 << 16
    contents = FileContents((CodedTensor("w", (90, 784), symbols, 0.5, live),))
    whole, quick = (codec.size_estimate(contents, quick=one).total for one in (False, True))
    assert whole < 0.99 * quick


@pytest.mark.parametrize("seed", range(3))
def test_the_quick_estimate_is_what_the_file_takes(seed: int) -> None:
    contents, _ = lenet(seed)
    for tensor in contents.tensors:
        if isinstance(tensor, CodedTensor) and tensor.live is None:
            alone = codec.size_estimate(FileContents((tensor,)))
            taken = sum(alone.symbols.values()) + sum(alone.biases.values())
            # model parameters are in the estimate (a byte), blocks learn a little later than it
            assert codec.tensor_bits(tensor.symbols) / 8 == pytest.approx(taken, rel=0.03, abs=2)


def test_dead_positions_by_channel_cost_less_than_a_bit_each() -> None:
    live = np.repeat(np.random.default_rng(0).random(32) < 0.5, 16)
    symbols = np.ones((4, 512), dtype=np.int32)
    symbols[:, ~live] = 0
    contents = FileContents((CodedTensor("w", (4, 512), symbols, 0.5, live),))
    parts = codec.size_estimate(contents)
    assert parts.live + parts.scales + sum(parts.symbols.values()) < 512 / 8 / 2


def test_nothing_costs_next_to_nothing() -> None:
    contents = FileContents(
        (CodedTensor("w", (999, 999), np.zeros((999, 999), dtype=np.int32), 0.5),)
    )
    assert len(codec.encode(contents)) <= 16
    assert codec.tensor_bits(np.zeros((3, 0), dtype=np.int32)) == 0.0
