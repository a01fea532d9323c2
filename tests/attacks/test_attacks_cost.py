"""What the most costly files take of a reader: memory by the kernel's own account, and seconds of the processor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from zlib import crc32

import numpy as np
import pytest
from numpy.typing import NDArray

from epigram import codec
from epigram.codec import first_symbols, layout, native, scaled, symbols, trellis
from epigram.codec.coder import Flag
from epigram.codec.container import wrap
from epigram.codec.first_symbols import ADAPTIVE, ADAPTIVE_SIGNS, Choice
from epigram.codec.layout import code_contents
from epigram.codec.limits import Limits
from epigram.codec.writer import Writer
from epigram.errors import ConfigError, FormatError
from epigram.records import CodedTensor, FileContents, GroupEdit, RawTensor

SIDE, PLACES = 1024, 4
SHAPE = (SIDE, SIDE)
OF_A_BYTE = 4
"""Bytes of memory for a byte of the file, as docs/format.md has them; the rest is for a value."""

Integers = NDArray[np.int32]

MEASURE = """
import json, sys
from epigram import codec
from epigram.codec import native
from epigram.errors import FormatError
native._WORK[0] = 1 << 30  # compiled from the first symbol on

def status(name):
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(name + ":")))

shapes = {name: tuple(shape) for name, shape in json.loads(sys.argv[1]).items()}
data = sys.stdin.buffer.read()

def decoded():
    try:
        return codec.decode(data, dense_shapes=shapes)
    except FormatError:
        return None

decoded()  # loads what is compiled
open("/proc/self/clear_refs", "w").write("5")  # the peak so far is forgotten
before = status("VmRSS")
held = decoded()
print(json.dumps([status("VmHWM") - before, held is not None]))
"""


def _one() -> Integers:
    out = np.zeros(SHAPE, np.int32)
    out[0, 5] = 1
    return out


def _rows() -> Integers:
    """Rows of several sizes: numbers are sorted by them."""
    out = _one()
    out[0], out[SIDE // 2] = 3, 1
    return out


def _chain() -> Integers:
    k = np.zeros(SIDE * SIDE, np.int64)
    k[0], k[len(k) // 2 :] = 1, 2
    return trellis.integers(k, trellis.states(k & 1) & 1).reshape(SHAPE).astype(np.int32)


def _live() -> CodedTensor:
    alive = np.arange(SIDE) > 2
    return CodedTensor("w", SHAPE, _one(), 1.0, alive)


def _cosine() -> CodedTensor:
    shape = (SIDE, SIDE // PLACES**2, PLACES, PLACES)
    return CodedTensor("w", shape, _one().reshape(shape), 1.0, cosine=True)


def _constant(kind: str) -> RawTensor:
    return RawTensor("w", SHAPE, np.full(SHAPE, 1.5, kind))


TENSORS: dict[str, tuple[Callable[[], CodedTensor | RawTensor], int]] = {
    "plain": (lambda: CodedTensor("w", SHAPE, _one(), 1.0), 13),
    "rows": (lambda: CodedTensor("w", SHAPE, _rows(), 1.0), 18),
    "trellis": (lambda: CodedTensor("w", SHAPE, _chain(), 1.0), 27),
    "live": (_live, 14),
    "cosine": (_cosine, 14),
    "constant": (lambda: _constant("<f4"), 4),
    "constant-16": (lambda: _constant("<c16"), 16),
    "raw": (lambda: RawTensor("w", SHAPE, np.arange(SIDE * SIDE, dtype="<i4").reshape(SHAPE)), 4),
}
"""Tensors, and the bytes of memory each value of theirs takes."""

# bucket, trellis, number: every one is an escape, and what is written below its top bits comes on top
ESCAPES = {
    "plain": ((0, 0, 24), 33),
    "shifted": ((36, 0, 60), 41),
    "trellis": ((24, 1, 60), 49),
    "trellis-shifted": ((40, 1, 240), 57),
}


def _escapes(monkeypatch: pytest.MonkeyPatch, bucket: int, order: int, number: int) -> FileContents:
    """What a writer writes that takes every number for one of another size."""

    def plan(values: NDArray[np.int64], shape: tuple[int, ...]) -> scaled.Plan:
        return scaled.Plan(order, 0, bucket, None, None, np.full(len(values), number, np.int64))

    monkeypatch.setattr(symbols, "plan", plan)
    return FileContents((CodedTensor("w", SHAPE, np.ones(SHAPE, np.int32), 1.0),))


def _first_escapes(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The same in version 1."""
    monkeypatch.setattr(
        first_symbols, "choose", lambda _: Choice(ADAPTIVE, 0, ADAPTIVE_SIGNS, bits=0.0)
    )
    kit = native.compiled()
    writer = Writer(kit)
    if kit is not None:
        monkeypatch.setattr(layout, "fit_for", lambda _: kit)
    tensor = CodedTensor("w", SHAPE, np.full(SHAPE, -21, np.int32), 1.0)
    code_contents(
        writer,
        profile="bare",
        contents=FileContents((tensor,)),
        dense={"w": SHAPE},
        present=[True],
        limits=Limits(),
        version=1,
        quick=True,
    )
    body = bytearray(wrap(writer.finish(), "bare")[:-4])
    body[3] = (body[3] & 15) | 1 << 4
    return bytes(body) + crc32(body).to_bytes(4, "little")


def _memory(data: bytes, shape: tuple[int, ...]) -> tuple[int, bool]:
    """Bytes that decoding takes at its peak, in a process of its own, and whether it was not refused."""
    if not os.access("/proc/self/clear_refs", os.W_OK) or native.compiled() is None:
        pytest.skip("needs Linux's account of the peak, VmHWM, and numba: Python's lists take more")
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed is given back
    command = [sys.executable, "-c", MEASURE, json.dumps({"w": shape})]
    done = subprocess.run(command, input=data, capture_output=True, check=True, env=environment)
    peak, is_decoded = json.loads(done.stdout)
    return peak, is_decoded


def _check_memory(data: bytes, shape: tuple[int, ...], least: int, most: int) -> None:
    peak, is_decoded = _memory(data, shape)
    taken = peak / (SIDE * SIDE)
    assert is_decoded
    of_file = OF_A_BYTE * len(data) / (SIDE * SIDE)
    assert least <= taken <= 1.05 * (most + of_file) + 0.5  # the answer itself; pages and tables


@pytest.mark.parametrize("name", TENSORS)
def test_memory_is_what_the_document_says(name: str) -> None:
    make, most = TENSORS[name]
    tensor = make()
    data = codec.encode(FileContents((tensor,)))
    _check_memory(data, tensor.dense_shape, tensor.values().dtype.itemsize, most)


@pytest.mark.parametrize("name", ESCAPES)
def test_memory_of_escapes_is_what_the_document_says(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bucket, order, number), most = ESCAPES[name]
    data = codec.encode(_escapes(monkeypatch, bucket, order, number))
    _check_memory(data, SHAPE, most - 16, most)


def test_memory_of_version_1_is_what_the_document_says(monkeypatch: pytest.MonkeyPatch) -> None:
    _check_memory(_first_escapes(monkeypatch), SHAPE, 50, 66)


def test_a_tiny_file_cannot_ask_for_bytes_it_does_not_hold() -> None:
    """A raw tensor of 400 MB in a file of 40 bytes: refused without them."""
    text, writer = "100000000", Writer()
    writer.natural([Flag() for _ in range(8)], 1)
    writer.flag(Flag(zeros=1), 1)
    writer.below(14, 0)
    writer.flag(Flag(zeros=3), 0)
    writer.below(4096, crc32(text.encode()) & 4095)
    writer.below(2, crc32(text.encode()).bit_count() & 1)
    writer.flag(Flag(zeros=4), 0)
    writer.below(3, 0)
    data = wrap(writer.finish(), "bare")
    with pytest.raises(FormatError, match="expected at most the"):
        codec.decode(data, dense_shapes={"w": (int(text),)})
    peak, is_decoded = _memory(data, (int(text),))
    assert not is_decoded and peak < 2**20


MICRO = 1e-6
SLACK = 30
"""A test allows so many times the seconds: its types are checked at every call, on a processor that others use."""
# what is read, how much of it, and seconds for each as docs/format.md has them
COSTS: dict[str, tuple[Callable[[], FileContents], int, float]] = {
    "constant": (
        lambda: FileContents((RawTensor("w", (2**24,), np.full(2**24, 1.5, "<f4")),)),
        2**24,
        0.001 * MICRO,
    ),
    "plain": (lambda: FileContents((CodedTensor("w", SHAPE, _one(), 1.0),)), 2**20, 0.02 * MICRO),
    "mixed": (
        lambda: FileContents((CodedTensor("w", (128, 64), _grid(), 1.0),)),
        2**13,
        1 * MICRO,
    ),
    "units": (
        lambda: FileContents((), (GroupEdit("a", np.random.default_rng(0).random(2**17) < 0.5),)),
        2**17,
        0.05 * MICRO,
    ),
    "positions": (
        lambda: FileContents((CodedTensor("w", (1, 2**17), *_half_alive()),)),
        2**17,
        0.07 * MICRO,
    ),
    "text": (lambda: FileContents((), (), {"key": "a" * 2**12}), 2**12, 10 * MICRO),
}


def _grid() -> Integers:
    """Numbers that are told best by those around them."""
    slope = np.add.outer(np.arange(128), np.arange(64)) % 9
    return (slope * slope).astype(np.int32)


def _half_alive() -> tuple[Integers, float, NDArray[np.bool_]]:
    """All zero where they are alive but for one, so that the symbols do not imply which are."""
    alive = np.random.default_rng(0).random(2**17) < 0.5
    values = np.zeros((1, 2**17), np.int32)
    values[0, np.flatnonzero(alive)[0]] = 2
    return values, 1.0, alive


def _seconds(data: bytes, count: int, each: float) -> None:
    if native.compiled() is None:
        pytest.skip("without numba all of it takes a hundred times as long")
    took = []
    for _ in range(2):  # what is compiled is loaded in the first
        start = time.process_time()
        codec.decode(data)
        took.append(time.process_time() - start)
    assert min(took) < SLACK * count * each


@pytest.mark.parametrize("name", COSTS)
def test_time_is_about_what_the_document_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_WORK", [1 << 30])  # compiled from the first symbol on
    make, count, each = COSTS[name]
    _seconds(codec.encode(make(), profile="named"), count, each)


def test_time_of_escapes_is_about_what_the_document_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_WORK", [1 << 30])  # compiled from the first symbol on
    (bucket, order, number), _ = ESCAPES["trellis-shifted"]
    contents = _escapes(monkeypatch, bucket, order, number)
    _seconds(codec.encode(contents, profile="named"), SIDE * SIDE, 0.15 * MICRO)


def test_all_masks_of_a_file_share_one_budget() -> None:
    alive = np.arange(600) % 3 > 0
    tensor = CodedTensor("w", (600,), alive.astype(np.int32), 1.0, np.ones(600, np.bool_), 0)
    contents = FileContents((tensor,), (GroupEdit("a", alive),))
    data = codec.encode(contents, profile="named")
    assert (
        codec.decode(data, limits=Limits(max_mask_bits=1200)).edits[0].kept.tolist()
        == alive.tolist()
    )
    with pytest.raises(FormatError, match="mask bits: got 1200"):
        codec.decode(data, limits=Limits(max_mask_bits=1199))
    held = [f"{n}" for n in range(600)]
    some = tuple(CodedTensor(n, (1,), np.ones(1, np.int32), 1.0) for n in held[::2])
    bare = codec.encode(FileContents((tensor, *some)), state_names=["w", *held])
    dense = {"w": (600,)} | dict.fromkeys(held, (1,))
    with pytest.raises(FormatError, match="mask bits: got 1201"):
        codec.decode(bare, dense_shapes=dense, limits=Limits(max_mask_bits=1200))


def test_a_writer_refuses_masks_that_no_reader_takes() -> None:
    alive = np.ones(600_000, np.bool_)
    tensor = CodedTensor("w", alive.shape, alive.astype(np.int32), 1.0, alive, 0)
    with pytest.raises(ConfigError, match="max_mask_bits"):
        codec.encode(FileContents((tensor,), (GroupEdit("a", alive),)), profile="named")
