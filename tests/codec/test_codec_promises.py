"""What is promised of sizes, on files large and small: the estimate is the file's, and the coder loses next to nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from epigram import codec
from epigram.codec import trellis
from epigram.codec.container import Profile, unwrap
from epigram.codec.files import read
from epigram.codec.limits import Limits
from epigram.records import CodedTensor, FileContents, RawTensor

Case = tuple[FileContents, dict[str, tuple[int, ...]]]
"""Contents, and all dense shapes of the original, those of left-out tensors too."""


def _alone(tensor: CodedTensor | RawTensor) -> Case:
    return FileContents((tensor,)), {tensor.name: tensor.dense_shape}


def _sparse(side: int, density: float) -> Case:
    rng = np.random.default_rng(0)
    values = np.rint(rng.laplace(size=(side, side)) * 3) * (rng.random((side, side)) < density)
    return _alone(CodedTensor("w", (side, side), values.astype(np.int32), 0.5))


def _chain(side: int) -> Case:
    k = np.rint(np.random.default_rng(0).laplace(size=side * side) * 2).astype(np.int64)
    values = trellis.integers(k, trellis.states(k & 1) & 1).reshape(side, side)
    return _alone(CodedTensor("w", (side, side), values.astype(np.int32), 0.5))


def _raw() -> Case:
    values = np.random.default_rng(0).normal(size=(90, 90)).astype(np.float32)
    return _alone(RawTensor("w", (90, 90), values))


def _left_out(layers: int, side: int) -> Case:
    """A net of which every third tensor is not in the file, with no order in it."""
    rng = np.random.default_rng(0)
    dense: dict[str, tuple[int, ...]] = {}
    held = []
    for layer in range(layers):
        name, shape = f"{layer}.weight", (side, side)
        dense[name] = shape
        if rng.random() < 2 / 3:
            values = np.rint(rng.laplace(size=shape) * 2).astype(np.int32)
            held.append(CodedTensor(name, shape, values, 0.5))
    return FileContents(tuple(held)), dense


CASES: dict[str, Callable[[], Case]] = {
    "sparse-2M": lambda: _sparse(1448, 0.01),
    "sparse-1M": lambda: _sparse(1024, 0.05),
    "trellis-1M": lambda: _chain(1024),
    "trellis-small": lambda: _chain(20),
    "raw": _raw,
    "left-out": lambda: _left_out(300, 8),
    "left-out-small": lambda: _left_out(300, 1),
    "one-symbol": lambda: _alone(CodedTensor("w", (1,), np.array([3], np.int32), 0.5)),
}


@pytest.mark.parametrize("profile", ["bare", "named"])
@pytest.mark.parametrize("name", CASES)
def test_sizes_are_as_promised(name: str, profile: Profile) -> None:
    contents, dense = CASES[name]()
    data = codec.encode(contents, profile=profile, state_names=list(dense))
    told = codec.size_estimate(contents, profile, state_names=list(dense)).total
    assert abs(told - len(data)) <= (40 if len(data) < 2000 else 0.02 * len(data))
    shapes = dense if profile == "bare" else None
    _, reader, _ = read(data, shapes, Limits())
    ideal = reader.total_bits / 8
    assert len(unwrap(data, Limits()).stream) <= 1.01 * ideal + 8


def test_the_estimate_counts_what_says_which_tensors_are_left_out() -> None:
    contents, dense = _left_out(300, 1)
    without, with_mask = (
        codec.size_estimate(contents, state_names=names).total for names in (None, list(dense))
    )
    assert with_mask - without > 300 * 0.85 / 8  # an entropy of 0.92 bits each
