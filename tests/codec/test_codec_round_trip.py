"""Any contents come back as they were, in both profiles."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from epigram import codec
from epigram.records import CodedTensor, FileContents, GroupEdit, RawTensor

shapes = hnp.array_shapes(min_dims=1, max_dims=5, min_side=0, max_side=5)
steps = st.floats(2.0**-100, 2.0**100).map(codec.representable_step)
symbols = st.one_of(
    st.just(0),
    st.integers(-3, 3),
    st.integers(-300, 300),
    st.sampled_from([-(2**31), 2**31 - 1, 2**30, -(2**24), 19, 20, 21, -20]),
)
RAW_DTYPES = [
    "<f4",
    "<f8",
    "<f2",
    "?",
    "u1",
    "i1",
    "<u2",
    "<i2",
    "<u4",
    "<i4",
    "<u8",
    "<i8",
    "<c8",
    "<c16",
]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


# Records are made outside the strategies: the type checks that tests run under draw random numbers.


@st.composite
def coded(draw: st.DrawFn, name: str) -> partial[CodedTensor]:
    shape = draw(shapes)
    values = draw(hnp.arrays(np.int32, shape, elements=symbols))
    dense = tuple(size * draw(st.integers(1, 3)) + draw(st.integers(0, 2)) for size in shape)
    how = {"cosine": len(shape) == 4 and min(shape[2:]) > 1 and draw(st.booleans())}
    if not draw(st.booleans()):
        return partial(CodedTensor, name, dense, values, draw(steps), **how)
    axis = draw(st.integers(0, len(shape) - 1))
    live = draw(hnp.arrays(np.bool_, shape[axis]))
    values[(slice(None),) * axis + (~live,)] = 0
    return partial(CodedTensor, name, dense, values, draw(steps), live, axis, **how)


@st.composite
def raw(draw: st.DrawFn, name: str) -> partial[RawTensor]:
    dtype = np.dtype(draw(st.sampled_from(RAW_DTYPES)))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    if draw(st.booleans()):
        values = draw(hnp.arrays(dtype, shape))
    else:
        octets = np.frombuffer(draw(st.binary(max_size=3)) + b"\x01", np.uint8)
        filled = np.resize(octets, math.prod(shape) * dtype.itemsize)
        values = (filled & (1 if dtype.kind == "b" else 255)).view(dtype).reshape(shape)
    return partial(RawTensor, name, tuple(size + draw(st.integers(0, 2)) for size in shape), values)


@st.composite
def contents(draw: st.DrawFn) -> Callable[[], FileContents]:
    names = draw(st.lists(TEXT, max_size=5, unique=True))
    tensors = [draw(st.one_of(coded(name), raw(name))) for name in names]
    groups = draw(st.lists(TEXT, max_size=2, unique=True))
    kept = [draw(hnp.arrays(np.bool_, st.integers(0, 30))) for _ in groups]
    metadata = draw(
        st.dictionaries(st.text("ab/é", max_size=4), st.text("xy\n", max_size=6), max_size=3)
    )
    numbers = draw(
        st.dictionaries(st.text("a.b1", max_size=6), st.integers(0, 2**31 - 2), max_size=2)
    )
    return lambda: FileContents(
        tuple(tensor() for tensor in tensors),
        tuple(GroupEdit(*edit) for edit in zip(groups, kept, strict=True)),
        metadata,
        numbers,
    )


def assert_same(got: FileContents, expected: FileContents) -> None:
    assert [t.name for t in got.tensors] == [t.name for t in expected.tensors]
    assert dict(got.numbers) == dict(expected.numbers)
    for ours, theirs in zip(got.tensors, expected.tensors, strict=True):
        assert ours.dense_shape == theirs.dense_shape and ours.shape == theirs.shape
        if isinstance(theirs, RawTensor):
            assert isinstance(ours, RawTensor)
            assert ours.values_.dtype == theirs.values_.dtype
            assert ours.values_.tobytes() == theirs.values_.tobytes()
            continue
        assert isinstance(ours, CodedTensor)
        np.testing.assert_array_equal(ours.symbols, theirs.symbols)
        assert ours.symbols.dtype == np.int32
        assert (ours.step_size, ours.cosine) == (theirs.step_size, theirs.cosine)
        assert (ours.live is None) == (theirs.live is None)
        if theirs.live is not None and ours.live is not None:
            np.testing.assert_array_equal(ours.live, theirs.live)
            assert ours.live_axis == theirs.live_axis


def dense_shapes(of: FileContents) -> Mapping[str, tuple[int, ...]]:
    return {tensor.name: tensor.dense_shape for tensor in of.tensors}


@settings(max_examples=60)
@given(contents())
def test_bare_files_come_back_and_account_for_every_byte(make: Callable[[], FileContents]) -> None:
    what = make()
    data = codec.encode(what)
    assert_same(codec.decode(data, dense_shapes=dense_shapes(what)), what)
    assert codec.breakdown(data, dense_shapes=dense_shapes(what)).total == len(data)
    # lost: a little rounding, a tail of at most a byte; won, with luck: zeros at the end, up to a word
    assert -4 <= len(data) - codec.size_estimate(what).total <= 2
    told = codec.inspect(data)
    assert told["file_bytes"] == len(data)
    assert told.get("numbers", {}) == dict(what.numbers)


@settings(max_examples=25)
@given(contents())
def test_named_files_come_back_without_the_model(make: Callable[[], FileContents]) -> None:
    what = make()
    data = codec.encode(what, profile="named")
    back = codec.decode(data)
    assert_same(back, what)
    assert dict(back.metadata) == dict(what.metadata)
    assert [edit.name for edit in back.edits] == [edit.name for edit in what.edits]
    for ours, theirs in zip(back.edits, what.edits, strict=True):
        np.testing.assert_array_equal(ours.kept, theirs.kept)
    assert codec.breakdown(data).total == len(data)
    assert codec.inspect(data)["file_bytes"] == len(data)


@settings(max_examples=40)
@given(contents(), st.lists(st.integers(0, 6), max_size=4))
def test_a_bare_file_says_which_tensors_it_leaves_out(
    make: Callable[[], FileContents], absent: list[int]
) -> None:
    what = make()
    order = [(tensor.name, tensor.dense_shape) for tensor in what.tensors]
    for number, place in enumerate(absent):
        order.insert(place, (f"not in the file {number}", (number,)))
    file = codec.encode(what, state_names=[name for name, _ in order])
    assert_same(codec.decode(file, dense_shapes=dict(order)), what)


@pytest.mark.parametrize("axis", [None, 0, 1, 2])
def test_coefficients_come_back_and_smooth_kernels_take_fewer_bytes(axis: int | None) -> None:
    rng = np.random.default_rng(0)
    fall = np.add.outer(np.arange(5), np.arange(5))
    values = np.rint(rng.laplace(size=(12, 9, 5, 5)) * 3 * np.exp(-0.8 * fall)).astype(np.int32)
    live = None if axis is None else np.arange(values.shape[axis]) % 4 > 0
    if axis is not None:
        np.moveaxis(values, axis, 0)[~live] = 0
    sizes = []
    for is_cosine in (True, False):
        at = 1 if axis is None else axis
        tensor = CodedTensor("w", values.shape, values, 0.5, live, at, cosine=is_cosine)
        what = FileContents((tensor,))
        data = codec.encode(what)
        assert_same(codec.decode(data, dense_shapes=dense_shapes(what)), what)
        sizes.append(len(data))
    assert sizes[0] < 0.97 * sizes[1]  # by frequency the typical size is known


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_order_does_not_matter(order: Literal["C", "F"]) -> None:
    values = np.arange(-30, 30, dtype=np.int32).reshape(3, 4, 5)
    what = FileContents((CodedTensor("w", (3, 4, 5), np.array(values, order=order), 0.5),))
    plain = FileContents((CodedTensor("w", (3, 4, 5), values, 0.5),))
    assert codec.encode(what) == codec.encode(plain)


@pytest.mark.parametrize("scale", [0.3, 3.0, 3e4])
def test_a_million_symbols_come_back_quickly(scale: float) -> None:
    values = np.rint(np.random.default_rng(0).laplace(0, scale, (1000, 1000))).astype(np.int32)
    what = FileContents((CodedTensor("w", (1000, 1000), values, 0.5),))
    start = time.process_time()
    data = codec.encode(what)
    assert_same(codec.decode(data, dense_shapes=dense_shapes(what)), what)
    assert time.process_time() - start < 5.0  # some 0.3 s; a loop over symbols takes longer
