"""Files made to hurt: valid checksums over hostile insides. Decoded or refused, soon, in little memory."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epigram import codec
from epigram.codec.coder import Flag
from epigram.codec.container import wrap
from epigram.codec.writer import Writer
from epigram.errors import FormatError
from epigram.records import CodedTensor, FileContents, GroupEdit, RawTensor

_RNG = np.random.default_rng(0)
_WEIGHT = _RNG.integers(-2, 3, (4, 12)).astype(np.int32)
_WEIGHT[:, 5:9] = 0
SMALL = FileContents(
    (
        CodedTensor("a.weight", (6, 24), _WEIGHT, 0.5, (_WEIGHT != 0).any(0)),
        CodedTensor("a.bias", (6,), _RNG.integers(-99, 99, 4).astype(np.int32), 0.25),
        RawTensor("n", (), np.array(7, dtype=np.int64)),
        RawTensor("v", (6,), _RNG.normal(size=4).astype(np.float32)),
    ),
    (GroupEdit("a", np.array([1, 0, 1, 1, 0, 1], dtype=bool)),),
    {"key": "value"},
)
DENSE = {tensor.name: tensor.dense_shape for tensor in SMALL.tensors}
FILES = {"bare": codec.encode(SMALL), "named": codec.encode(SMALL, profile="named")}
SECONDS = 5.0


def _as_version_1(data: bytes) -> bytes:
    """The same stream in a file that says it is of version 1."""
    body = bytearray(data[:-4])
    body[3] = (body[3] & 15) | 1 << 4
    return bytes(body) + crc32(body).to_bytes(4, "little")


def _rewrap(stream: bytes, profile: str) -> bytes:
    return wrap(stream, "bare" if profile == "bare" else "named")


def _decoded_or_refused(data: bytes) -> bool:
    """Which of the two; in time. The first file in a while may pay for what is compiled at first use."""
    outcome, seconds = _timed(data)
    if seconds >= SECONDS:
        assert _timed(data)[1] < SECONDS
    return outcome


def _timed(data: bytes) -> tuple[bool, float]:
    start = time.perf_counter()
    try:
        codec.decode(data, dense_shapes=DENSE if data[3] & 15 == 0 else None)
        outcome = True
    except FormatError:
        outcome = False
    with contextlib.suppress(FormatError):
        codec.inspect(data)
    return outcome, time.perf_counter() - start


@settings(max_examples=120)
@given(
    st.sampled_from(["bare", "named"]),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(-6, 6),
)
def test_changed_streams_with_a_mended_checksum(
    profile: str, changes: list[tuple[int, int]], longer: int
) -> None:
    stream = bytearray(FILES[profile][5:-4])
    for place, value in changes:
        stream[place % len(stream)] = value
    stream = stream[:longer] if longer < 0 else stream + bytes(range(1, longer + 1))
    _decoded_or_refused(_rewrap(bytes(stream), profile))


@settings(max_examples=150)
@given(st.sampled_from(["bare", "named"]), st.binary(max_size=60))
def test_noise_with_a_right_outside(profile: str, stream: bytes) -> None:
    _decoded_or_refused(_rewrap(stream, profile))


@settings(max_examples=150)
@given(st.binary(max_size=80))
def test_noise(data: bytes) -> None:
    with pytest.raises(FormatError):
        codec.decode(data, dense_shapes=DENSE)


def test_the_untouched_files_are_decoded() -> None:
    assert all(_decoded_or_refused(data) for data in FILES.values())


@pytest.mark.parametrize("version", [0, 3, 15])
def test_other_versions_are_named(version: int) -> None:
    body = bytearray(FILES["bare"][:-4])
    body[3] = version << 4
    with pytest.raises(FormatError, match=f"version {version}"):
        codec.decode(bytes(body) + crc32(body).to_bytes(4, "little"), dense_shapes=DENSE)


def test_an_unknown_profile_is_refused() -> None:
    body = bytearray(FILES["bare"][:-4])
    body[3] = 0x17
    with pytest.raises(FormatError, match="profile 7"):
        codec.decode(bytes(body) + crc32(body).to_bytes(4, "little"), dense_shapes=DENSE)


@pytest.mark.parametrize(
    "data", [b"", b"\xe9", b"PK\x03\x04" * 9, b"\x80\x04pickle.." * 3, b"\0" * 64]
)
def test_other_files_are_told_apart(data: bytes) -> None:
    with pytest.raises(FormatError, match="expected an epigram file"):
        codec.decode(data)


def _head(writer: Writer, tensors: int) -> None:
    writer.natural([Flag() for _ in range(8)], tensors)


def _named(writer: Writer, shape: tuple[int, ...], name: str = "w") -> None:
    """A named file of one coded tensor called ``name``, up to its small shape."""
    _head(writer, 1)
    writer.flag(Flag(zeros=1), 0)
    writer.signed([Flag() for _ in range(8)], 0)
    writer.below(16, 0)
    writer.natural([Flag() for _ in range(8)], 0)
    writer.natural([Flag() for _ in range(12)], len(name))
    bits: dict[tuple[int, int], Flag] = {}
    before = 0
    for byte in name.encode():
        node = 1
        for shift in range(7, -1, -1):
            bit = byte >> shift & 1
            writer.flag(bits.setdefault((before, node), Flag()), bit)
            node = 2 * node + bit
        before = byte
    writer.natural([Flag() for _ in range(4)], len(shape))
    sizes = [Flag() for _ in range(16)]
    for size in shape:
        writer.natural(sizes, size)
    writer.natural([Flag() for _ in range(12)], 0)
    writer.natural([Flag() for _ in range(8)], 0)
    first, other = Flag(), Flag(zeros=4)
    for axis in range(len(shape)):
        writer.flag(first if axis == 0 and len(shape) > 1 else other, 0)


def _absurd_count(writer: Writer) -> None:
    _head(writer, 2**32 - 2)


def _absurd_shape(writer: Writer) -> None:
    _named(writer, (2**31, 2**31, 2**31))


def _large_shape(writer: Writer) -> None:
    _named(writer, (2**14, 2**14))


def _absurd_behind_0(writer: Writer) -> None:
    """No values at all, and still a shape that numpy has no array of."""
    _named(writer, (0, 2**32 - 2, 2**32 - 2))


def _absurd_behind_0_by_axes(writer: Writer) -> None:
    _named(writer, (0, 2**31, 2**31, 2**31))


def _large_behind_0(writer: Writer) -> None:
    """What numpy would allow, but beyond what the reader does."""
    _named(writer, (2**20, 0, 2**20))


def _absurd_rank(writer: Writer) -> None:
    _named(writer, (1,) * 4000)


def _absurd_exponent(writer: Writer) -> None:
    _head(writer, 1)
    writer.flag(Flag(zeros=1), 0)
    writer.signed([Flag() for _ in range(8)], 2**30)


def _absurd_text(writer: Writer) -> None:
    _head(writer, 1)
    writer.flag(Flag(zeros=1), 0)
    writer.signed([Flag() for _ in range(8)], 0)
    writer.below(16, 0)
    writer.natural([Flag() for _ in range(8)], 0)
    writer.natural([Flag() for _ in range(12)], 2**31)


def _absurd_shift(writer: Writer) -> None:
    _named(writer, (3,))
    writer.flag(Flag(zeros=1), 0)
    writer.natural([Flag(), Flag(zeros=2)], 1)
    writer.natural([Flag() for _ in range(4)], 40)


def _unknown_model(writer: Writer) -> None:
    _named(writer, (3,))
    writer.flag(Flag(zeros=1), 0)
    writer.natural([Flag(), Flag(zeros=2)], 5)


def _absurd_scale(writer: Writer) -> None:
    _named(writer, (3,))
    writer.flag(Flag(zeros=1), 0)
    writer.flag(Flag(ones=2), 1)
    writer.flag(Flag(), 0)
    writer.flag(Flag(), 0)
    writer.signed([Flag() for _ in range(8)], 1000)


def _absurd_centre(writer: Writer) -> None:
    """Numbers about 2**31 away from zero, in units of 2**30."""
    _named(writer, (3,))
    writer.flag(Flag(zeros=1), 0)
    writer.flag(Flag(ones=2), 1)
    writer.flag(Flag(), 0)
    writer.flag(Flag(), 0)
    writer.signed([Flag() for _ in range(8)], 120)
    writer.flag(Flag(), 1)
    writer.signed([Flag() for _ in range(8)], 2**30)
    for _ in range(3 * 4):
        writer.below(2**16, 0)


def _too_many_mixed(writer: Writer) -> None:
    _named(writer, (2**16, 2))
    writer.flag(Flag(zeros=1), 0)
    writer.flag(Flag(ones=2), 1)
    writer.flag(Flag(), 1)


def _absurd_mask(writer: Writer) -> None:
    """A hundred million positions, all alive: a few bytes, and minutes to read one by one."""
    _named(writer, (100_000_000,))
    writer.flag(Flag(zeros=1), 1)
    writer.flag(Flag(), 0)


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        (_absurd_count, "tensors: got 4294967294"),
        (_absurd_shape, "dense shape"),
        (_large_shape, "max_elements"),
        (_absurd_behind_0, "dense shape"),
        (_absurd_behind_0_by_axes, "dense shape"),
        (_large_behind_0, "max_elements"),
        (_absurd_rank, "max_rank"),
        (_absurd_exponent, "exponent"),
        (_absurd_text, "max_text_bytes"),
        (_absurd_mask, "max_mask_bits"),
        (_absurd_scale, "scale of 1024"),
        (_absurd_centre, "beyond 32 bits"),
        (_too_many_mixed, "mixed contexts"),
    ],
)
def test_absurd_numbers_are_refused_by_name(fill: Callable[[Writer], None], message: str) -> None:
    writer = Writer()
    fill(writer)
    file = wrap(writer.finish(), "named")
    seconds = []
    for _ in range(
        3
    ):  # compiled loops are loaded once in a process, in the first two at the latest
        start = time.perf_counter()
        with pytest.raises(FormatError, match=message):
            codec.decode(file)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1.0
    with pytest.raises(FormatError, match=message):
        codec.inspect(file)


@pytest.mark.parametrize("shape", [(0, 512, 3, 3), (4096, 0), (0, 0), (0,), (3, 0, 2**12, 2**12)])
@pytest.mark.parametrize("is_raw", [False, True], ids=["coded", "raw"])
def test_tensors_without_values_are_read(shape: tuple[int, ...], is_raw: bool) -> None:
    dense = tuple(size + 1 for size in shape)
    kinds = (
        CodedTensor("w", dense, np.zeros(shape, np.int32), 0.5),
        RawTensor("w", dense, np.zeros(shape, np.float32)),
    )
    contents = FileContents((kinds[is_raw],))
    for profile in ("bare", "named"):
        data = codec.encode(contents, profile="bare" if profile == "bare" else "named")
        shapes = {"w": dense} if profile == "bare" else None
        assert codec.decode(data, dense_shapes=shapes).tensors[0].shape == shape


@pytest.mark.parametrize(
    ("fill", "message"), [(_absurd_shift, "shift 40"), (_unknown_model, "symbol model 5")]
)
def test_absurd_numbers_of_version_1_are_refused_by_name(
    fill: Callable[[Writer], None], message: str
) -> None:
    writer = Writer()
    fill(writer)
    with pytest.raises(FormatError, match=message):
        codec.decode(_as_version_1(wrap(writer.finish(), "named")))


def test_symbols_beyond_32_bits_are_refused() -> None:
    writer = Writer()
    _named(writer, (1,))
    writer.flag(Flag(zeros=1), 0)
    writer.natural([Flag(), Flag(zeros=2)], 1)
    writer.natural([Flag() for _ in range(4)], 31)
    writer.flag(Flag(), 0)
    nodes = [2**23 >> node for node in range(20)]
    writer.table([*nodes, 2**24 - sum(nodes)], np.array([19], dtype=np.int32), 1)
    writer.below(2**16, 0)
    writer.below(2**15, 0)
    writer.below(2, 0)
    with pytest.raises(FormatError, match="beyond 32 bits"):
        codec.decode(_as_version_1(wrap(writer.finish(), "named")))


def test_a_sample_of_the_endless_attack_is_decoded_or_refused() -> None:
    """``benchmarks/fuzz.py`` goes on where this stops; its counts are in ``benchmarks/results/fuzz.json``."""
    spec = importlib.util.spec_from_file_location(
        "mutations", Path(__file__).with_name("mutations.py")
    )
    assert spec is not None and spec.loader is not None
    mutations = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(mutations)
    corpus, rng = mutations.corpus(), random.Random(7)
    outcomes = set()
    for turn in range(300):
        data, shapes = rng.choice(corpus)
        hostile = (
            mutations.of_values(rng, data, shapes) if turn % 2 else mutations.of_bytes(rng, data)
        )
        try:
            codec.decode(
                hostile,
                dense_shapes=shapes if hostile[3] & 15 == 0 else None,
                limits=mutations.SMALL_LIMITS,
            )
            outcomes.add("decoded")
        except FormatError:
            outcomes.add("refused")
    assert outcomes == {"decoded", "refused"}


def test_reading_a_file_imports_no_torch() -> None:
    code = "import sys, epigram.codec; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_pair_of_tensor_counts_and_shapes_is_decoded_or_refused() -> None:
    names = list(DENSE)
    for count, names_first in itertools.product(range(len(names) + 1), [True, False]):
        chosen = names[:count] if names_first else names[::-1][:count]
        try:
            got = codec.decode(FILES["bare"], dense_shapes={n: DENSE[n] for n in chosen})
        except FormatError:
            continue
        assert chosen == names and len(got.tensors) == len(names)
