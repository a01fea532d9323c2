"""The ledger: what is acknowledged is there, torn tails are cut, any flipped bit is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.search.killed_ledger import acknowledged_under_kills

from epigram.errors import LedgerError, RunFolderError, StorageError
from epigram.search import lines
from epigram.search.ledger import LEDGER, Ledger, read
from epigram.search.lines import Event

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
DATA = st.dictionaries(st.text(min_size=1).filter(lambda k: k not in ("crc", "seq", "type")), JSON)


def filled(folder: Path, count: int = 3) -> bytes:
    with Ledger(folder) as ledger:
        for number in range(count):
            ledger.append("asked", {"run_id": f"run-{number}", "values": {"lr": 0.1 * number}})
    return (folder / LEDGER).read_bytes()


@given(st.lists(DATA, max_size=4))
def test_any_plain_data_comes_back(data: list[dict]) -> None:
    events = [Event(at, "asked", one) for at, one in enumerate(data, start=1)]
    content = b"".join(map(lines.encode, events))
    assert lines.decode_all(content, where="here") == (events, len(content))


def test_every_single_flipped_bit_is_named(tmp_path: Path) -> None:
    content = filled(tmp_path)
    starts = [0]
    for line in content.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for place in range(len(content)):
        number = sum(start <= place for start in starts)
        for bit in range(8):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            with pytest.raises(LedgerError, match=rf"line {number}\b"):
                lines.decode_all(bytes(damaged), where="here")


def test_every_torn_tail_is_cut_and_the_ledger_goes_on(tmp_path: Path) -> None:
    content = filled(tmp_path)
    path = tmp_path / LEDGER
    last = content.rstrip(b"\n").rfind(b"\n") + 1
    for end in (last + 1, last + 20, len(content) - 1):
        path.write_bytes(content[:end])
        with Ledger(tmp_path) as ledger:
            assert [event.seq for event in ledger.events] == [1, 2]
            assert ledger.cut_bytes == end - last
            ledger.append("told", {"run_id": "x"})
        assert [event.seq for event in read(tmp_path)] == [1, 2, 3]


def test_a_tail_of_zeros_after_a_power_cut_is_torn_too(tmp_path: Path) -> None:
    content = filled(tmp_path)
    (tmp_path / LEDGER).write_bytes(content + b"\0" * 500)
    with Ledger(tmp_path) as ledger:
        assert len(ledger.events) == 3


def test_a_missing_line_is_named(tmp_path: Path) -> None:
    first, _, third = filled(tmp_path).splitlines(keepends=True)
    (tmp_path / LEDGER).write_bytes(first + third)
    with pytest.raises(LedgerError, match=r"line 2: its number is 3, expected 2"), Ledger(tmp_path):
        pass
    assert (tmp_path / LEDGER).read_bytes() == first + third


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with (
        Ledger(tmp_path),
        pytest.raises(RunFolderError, match=rf"pid {os.getpid()}\) drives this study"),
        Ledger(tmp_path),
    ):
        pass


def test_nan_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        with pytest.raises(ValueError, match="not JSON compliant"):
            ledger.append("told", {"metric": float("nan")})
        ledger.append("told", {"metric": 1.0})
    assert [event.data for event in read(tmp_path)] == [{"metric": 1.0}]


def test_a_full_disk_leaves_the_ledger_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.append("asked", {"run_id": "a"})
        before = (tmp_path / LEDGER).read_bytes()
        real = os.write

        def half(descriptor: int, data: bytes) -> int:
            if len(data) > 20:
                return real(descriptor, data[:20])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "write", half)
        with pytest.raises(StorageError, match="No space left on device; it is as it was"):
            ledger.append("told", {"run_id": "a", "note": "x" * 21})
        monkeypatch.undo()
        assert (tmp_path / LEDGER).read_bytes() == before
        ledger.append("told", {"run_id": "a"})
    assert [event.type for event in read(tmp_path)] == ["asked", "told"]


def test_nothing_acknowledged_is_lost_under_random_kills(tmp_path: Path) -> None:
    counts = acknowledged_under_kills(tmp_path, events=120, seed=0, kills=3)
    assert counts.acknowledged >= 120
    assert counts.lost == 0


def test_a_disk_that_cannot_even_be_cut_is_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> int:
        raise OSError(5, "Input/output error")

    with Ledger(tmp_path) as ledger:
        ledger.append("asked", {"run_id": "a"})
        monkeypatch.setattr(os, "write", broken)
        monkeypatch.setattr(os, "truncate", broken)
        with pytest.raises(StorageError, match=r"half a line may be left .Input/output error"):
            ledger.append("told", {"run_id": "a"})
        monkeypatch.undo()
        with pytest.raises(StorageError, match="is closed"):
            ledger.append("told", {"run_id": "a"})
    assert [event.type for event in read(tmp_path)] == ["asked"]
