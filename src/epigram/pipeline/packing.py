"""Post-training coding: a checkpoint to a file of a target size, error or metric, by one step for all weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from epigram import codec
from epigram.errors import ConfigError
from epigram.pipeline.step_search import climb, search
from epigram.quantize.post_training import PRICE, Trellis, pack_tensor
from epigram.records import CodedTensor, FileContents

State = Mapping[str, NDArray[np.generic]]
Precision = Mapping[str, NDArray[np.float64]]
Judge = Callable[[FileContents], float]
"""How far a file is on the good side of what is asked; negative = it is not good enough."""

_ERROR_PER_STEP = 0.5


@dataclass(frozen=True)
class Packed:
    """A checkpoint as it goes into a file.

    Attributes:
        contents: what the file says.
        relative_error: root of the squared error of all weights over that of the weights themselves.
        step: of the weights.
        reason: why the target was not met, and what was reached; None = it was.
    """

    contents: FileContents
    relative_error: float
    step: float
    reason: str | None = None

    @property
    def met(self) -> bool:
        """Was the target met?"""
        return self.reason is None

    @cached_property
    def data(self) -> bytes:
        """The file, coded when it is first asked for."""
        return codec.encode(self.contents, profile="named")


def pack(
    state: State,
    *,
    size_bytes: int | None = None,
    max_error: float | None = None,
    good_enough: Judge | None = None,
    judge: Judge | None = None,
    precision: Precision | None = None,
    price: float = PRICE,
    metadata: Mapping[str, str] | None = None,
) -> Packed:
    """The best file of at most ``size_bytes``, or the smallest within ``max_error`` or ``good_enough``.

    The step is searched by secants (size, error) or bisection (``good_enough``), to a 32nd of an octave or as near
    as steps can be told.

    Args:
        state: tensors by name.
        size_bytes: of the file, at most.
        max_error: largest relative error of all weights together.
        good_enough: steers the search; finer steps are taken to be better.
        judge: has the last word on what ``good_enough`` led to: until it agrees, finer steps in growing strides.
        precision: weights of the squared errors by name; see ``fisher``.
        price: squared steps of error for a bit.
        metadata: goes into the file.

    Raises:
        ConfigError: not exactly one target, or a tensor cannot be packed.
    """
    if sum(target is not None for target in (size_bytes, max_error, good_enough)) != 1:
        raise ConfigError("pack: expected exactly one of a size, a largest error and a judge")
    weights = [v.astype(np.float64) for v in state.values() if v.dtype.kind == "f" and v.ndim > 1]
    count = sum(v.size for v in weights)
    power = sum(float(np.square(v).sum()) for v in weights)
    scale = math.sqrt(power / count) if power else 1.0

    def at(octave: float) -> Packed:
        contents = _contents(state, scale * 2.0**octave, precision, price, metadata or {})
        lost = _lost(state, contents)
        error = math.sqrt(lost / power) if power else 0.0
        return Packed(contents, error, scale * 2.0**octave)

    if size_bytes is not None:
        found = search(
            at,
            lambda p: len(p.data) <= size_bytes,
            coarser_is_ok=True,
            first=-2.0,
            coarser_by=lambda p: 8 * (len(p.data) - size_bytes) / max(count, 1),
        )
        return found.made if found.met else _too_large(found.made, size_bytes)
    if max_error is not None:
        found = search(
            at,
            lambda p: p.relative_error <= max_error,
            coarser_is_ok=False,
            first=math.log2(max_error / _ERROR_PER_STEP),
            coarser_by=lambda p: math.log2(max_error / max(p.relative_error, 1e-12)),
        )
        return found.made if found.met else _too_far(found.made)
    assert good_enough is not None
    steer = good_enough
    found = search(at, lambda p: steer(p.contents) >= 0.0, coarser_is_ok=False, first=-2.0)
    if judge is not None:
        last_word = judge
        found = climb(found, at, lambda p: last_word(p.contents))
    return found.made if found.met else replace(found.made, reason="no step is good enough")


def _too_large(smallest: Packed, size_bytes: int) -> Packed:
    size = len(smallest.data)
    return replace(
        smallest,
        reason=f"the smallest file has {size} bytes, {size - size_bytes} more than asked; names, vectors and what "
        "is not floating-point take that much however coarse the weights' step is",
    )


def _too_far(finest: Packed) -> Packed:
    return replace(
        finest,
        reason=f"the least relative error reached is {finest.relative_error:.3g}, at the finest step there is",
    )


def _contents(
    state: State,
    step: float,
    precision: Precision | None,
    price: float,
    metadata: Mapping[str, str],
) -> FileContents:
    trellis, known = Trellis(codec.TRELLIS_MOVES, codec.representable_step), precision or {}
    tensors = tuple(
        pack_tensor(
            name,
            values,
            step=step,
            trellis=trellis,
            precision=known.get(name),
            price=price,
        )
        for name, values in state.items()
    )
    return FileContents(tensors, (), metadata)


def _lost(state: State, contents: FileContents) -> float:
    total = 0.0
    for tensor in contents.tensors:
        if isinstance(tensor, CodedTensor) and len(tensor.shape) > 1:
            gap = state[tensor.name].astype(np.float64) - tensor.values()
            total += float(np.square(gap).sum())
    return total


def dense_bytes_of(contents: FileContents) -> int:
    """The tensors as 32-bit floats; what is not floating-point as it is."""
    return sum(
        4 * math.prod(tensor.shape) if isinstance(tensor, CodedTensor) else tensor.values_.nbytes
        for tensor in contents.tensors
    )
