"""IDX files: round trips of every type, and refusals of every damage."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from epigram.data import read_idx
from epigram.errors import DataError

KINDS = {0x08: "u1", 0x09: "i1", 0x0B: "i2", 0x0C: "i4", 0x0D: "f4", 0x0E: "f8"}


def idx_bytes(kind: int, shape: tuple[int, ...], payload: bytes) -> bytes:
    return bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + payload


GOOD = idx_bytes(0x08, (2, 3), bytes(range(6)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("compress", [True, False])
def test_reads_every_type_in_native_order(tmp_path: Path, kind: int, compress: bool) -> None:
    values = np.array([[-3, 0, 1], [2, 100, 7]]).astype(KINDS[kind])
    raw = idx_bytes(kind, values.shape, values.astype(f">{KINDS[kind]}").tobytes())
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(raw) if compress else raw)
    array = read_idx(path)
    assert array.dtype == np.dtype(KINDS[kind])
    assert array.dtype.isnative
    assert array.flags.writeable
    np.testing.assert_array_equal(array, values)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "truncated"),
        (GOOD[:3], "truncated: 3 bytes of magic number"),
        (GOOD[:9], "truncated: 5 bytes of sizes, expected 8"),
        (GOOD[:-1], "truncated: 5 bytes of values, expected 6"),
        (GOOD + b"x", "left over"),
        (b"\0\1" + GOOD[2:], "not an IDX file: magic number 0x00010802"),
        (b"\0\0\x0a\2" + GOOD[4:], "not an IDX file"),
        (b"\0\0\x08\0" + GOOD[4:], "not an IDX file"),
        (b"\0\0\x08\xff" + GOOD[4:], "not an IDX file"),
        (b"<html>not found</html>", "not an IDX file"),
    ],
)
@pytest.mark.parametrize("compress", [True, False])
def test_refuses_damage(tmp_path: Path, raw: bytes, message: str, compress: bool) -> None:
    path = tmp_path / "bad"
    path.write_bytes(gzip.compress(raw) if compress else raw)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


def test_refuses_a_size_beyond_the_cap_before_reading(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    path.write_bytes(idx_bytes(0x0E, (0xFFFFFFFF,) * 3, b""))
    with pytest.raises(DataError, match="expected at most 1073741824"):
        read_idx(path)
    path.write_bytes(GOOD)
    with pytest.raises(DataError, match="takes 6 bytes, expected at most 5"):
        read_idx(path, max_bytes=5)
    assert read_idx(path, max_bytes=6).shape == (2, 3)


def test_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path / "nowhere")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_truncation_and_no_flipped_bit_of_a_gzip_file_goes_unseen(
    tmp_path: Path, data: st.DataObject
) -> None:
    values = np.arange(200, dtype=np.uint8)
    whole = gzip.compress(idx_bytes(0x08, (200,), values.tobytes()), mtime=0)
    path = tmp_path / "damaged.gz"
    if data.draw(st.booleans(), "truncate"):
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1), "length")])
        with pytest.raises(DataError):
            read_idx(path)
        return
    bit = data.draw(st.integers(0, 8 * len(whole) - 1), "bit")
    damaged = bytearray(whole)
    damaged[bit // 8] ^= 1 << bit % 8
    path.write_bytes(bytes(damaged))
    try:
        array = read_idx(path)
    except DataError:
        return
    np.testing.assert_array_equal(array, values)  # a bit of the gzip header that says nothing
