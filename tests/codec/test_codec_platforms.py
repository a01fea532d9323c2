"""Decoding does not depend on how the machine rounds, or on who else decodes at the same time."""

from __future__ import annotations

import ctypes
import ctypes.util
import platform
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest

from epigram import codec, cosine
from epigram.codec import trellis
from epigram.records import CodedTensor, FileContents

MODES = {"down": 0x400, "up": 0x800, "to-zero": 0xC00}  # of x86


def _contents(*, small: bool) -> FileContents:
    rng = np.random.default_rng(0)
    scale = rng.lognormal(size=(30, 1, 1, 1)) * rng.lognormal(size=(1, 20, 1, 1))
    k = np.rint(rng.laplace(size=600) * 2).astype(np.int64)
    chain = trellis.integers(k, trellis.states(k & 1) & 1).reshape(30, 20)
    coefficients = np.rint(rng.laplace(size=(8, 6, 5, 5)) * 40)
    tensors = [
        CodedTensor("t", (30, 20), chain.astype(np.int32), 0.5),
        CodedTensor("k", (8, 6, 5, 5), coefficients.astype(np.int32), 0.1875, cosine=True),
        CodedTensor("b", (40,), rng.integers(-(2**20), 2**20, 40).astype(np.int32), 2.0**-20),
    ]
    if not small:
        draw = np.rint(rng.laplace(size=(30, 20, 12, 12)) * scale * 2)
        tensors.append(CodedTensor("w", draw.shape, draw.astype(np.int32), 0.25))
    return FileContents(tuple(tensors))


def _coefficients(contents: FileContents) -> list[CodedTensor]:
    return [t for t in contents.tensors if isinstance(t, CodedTensor) and t.cosine]


@contextmanager
def _rounding(mode: int) -> Iterator[None]:
    """Set how this thread's floating-point results are rounded."""
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    before = libm.fegetround()
    assert libm.fesetround(mode) == 0
    try:
        yield
    finally:
        libm.fesetround(before)


@pytest.mark.skipif(
    platform.machine() != "x86_64" or platform.system() != "Linux",
    reason="the numbers of the rounding modes are those of x86 with glibc",
)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("small", [True, False], ids=["small", "large"])
def test_a_file_says_the_same_however_floats_are_rounded(mode: str, small: bool) -> None:
    contents = _contents(small=small)
    shapes = {tensor.name: tensor.dense_shape for tensor in contents.tensors}
    data = codec.encode(contents)
    expected = [tensor.values() for tensor in contents.tensors]
    tenth = np.float64(0.1)
    usual = [float(tenth * tenth), float(-tenth * tenth)]
    with _rounding(MODES[mode]):
        assert [float(tenth * tenth), float(-tenth * tenth)] != usual  # the mode is in force
        got = codec.decode(data, dense_shapes=shapes)
        values = [tensor.values() for tensor in got.tensors]
        whole = [cosine.kernels(tensor.symbols) for tensor in _coefficients(got)]
        again = codec.encode(contents)
    for ours, theirs in zip(got.tensors, contents.tensors, strict=True):
        assert isinstance(ours, CodedTensor) and isinstance(theirs, CodedTensor)
        np.testing.assert_array_equal(ours.symbols, theirs.symbols)
    for tensor, found, value in zip(contents.tensors, values, expected, strict=True):
        # a product of coefficients has more digits than a float32: its last one follows the mode, no other does
        is_cosine = isinstance(tensor, CodedTensor) and tensor.cosine
        np.testing.assert_array_max_ulp(found, value, maxulp=int(is_cosine))
    for kernels, tensor in zip(whole, _coefficients(contents), strict=True):
        np.testing.assert_array_equal(kernels, cosine.kernels(tensor.symbols))
    assert again == data


def test_threads_do_not_disturb_each_other() -> None:
    contents = [_contents(small=small) for small in (True, False)] * 3
    shapes = [{t.name: t.dense_shape for t in each.tensors} for each in contents]
    files = [codec.encode(each) for each in contents]
    with ThreadPoolExecutor(6) as pool:
        read = list(pool.map(lambda a, b: codec.decode(a, dense_shapes=b), files, shapes))
        written = list(pool.map(codec.encode, read))
    assert written == files
