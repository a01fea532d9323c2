"""Pickled batches are data: real ones come back, and nothing in any file is run."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from epigram.data.pickled import read_pickled_table
from epigram.errors import DataError

PIXELS = np.arange(24, dtype=np.uint8).reshape(4, 6)

# What Python 2 wrote with numpy 1, as the published CIFAR batches have it (protocol 2, byte strings).
PYTHON_2 = (
    b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04"
    b"K\x00\x85U\x01b\x87Rq\x05(K\x01K\x02K\x03\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07"
    b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x06\x00\x01\x80\xfe\xff\ntb"
    b"U\x06labelsq\x08]q\x09(K\x06K\x09eU\x09filenames]q\x0aU\x05a.pngaU\x0bbatch_labelU\x02b1u."
)


def write(folder: Path, content: bytes) -> Path:
    path = folder / "batch"
    path.write_bytes(content)
    return path


def test_what_python_2_wrote(tmp_path: Path) -> None:
    table = read_pickled_table(write(tmp_path, PYTHON_2))
    assert table.pop("data").tolist() == [[0, 1, 128], [254, 255, 10]]
    assert table == {"labels": [6, 9], "filenames": ["a.png"], "batch_label": "b1"}


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_what_python_3_writes(tmp_path: Path, protocol: int) -> None:
    written = {"data": PIXELS, b"labels": list(range(300)), "names": [b"\xe9", "b"], "more": 2**40}
    table = read_pickled_table(write(tmp_path, pickle.dumps(written, protocol=protocol)))
    np.testing.assert_array_equal(table["data"], PIXELS)
    assert table["labels"] == list(range(300))
    assert table["names"] == ["\xe9", "b"]
    assert table["more"] == 2**40


def test_arrays_in_columns_come_in_order(tmp_path: Path) -> None:
    content = pickle.dumps({"data": np.asfortranarray(PIXELS)}, protocol=4)
    np.testing.assert_array_equal(read_pickled_table(write(tmp_path, content))["data"], PIXELS)


class Calls:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("inside", ["top", "value", "list"])
def test_code_is_refused_and_not_run(tmp_path: Path, protocol: int, inside: str) -> None:
    touched = tmp_path / "touched"
    evil = Calls(os.mkdir, str(touched))
    what = {"top": evil, "value": {"data": evil}, "list": {"labels": [evil]}}[inside]
    path = write(tmp_path, pickle.dumps(what, protocol=protocol))
    with pytest.raises(DataError, match=r"mkdir'.*was not run"):
        read_pickled_table(path)
    assert not touched.exists()
    pickle.loads(path.read_bytes())  # the file does what it says
    assert touched.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"cnumpy\nsave\n.", "numpy.save"),
        (b"cnumpy.core.multiarray\nfromfile\n.", "fromfile"),
        (b"(inumpy\nndarray\n.", "instruction INST"),
        (b"}(U\x01acnumpy\nndarray\n)\x81u.", "instruction NEWOBJ"),
        (b"\x82\x01.", "instruction EXT1"),
        (b"Pname\n.", "instruction PERSID"),
        (b"F1.5\n.", "instruction FLOAT"),
        (b"]q\x00.", "holds a list"),
        (b"K\x05)b.", "damaged"),
        (b"K\x05)R.", "damaged"),
        (b"(K\x05d.", "damaged"),
        (b"]]s.", "damaged"),
        (b"h\x07.", "damaged"),
        (b"", "damaged"),
        (b"\x80\x02}", "damaged"),
        (b"L" + b"9" * 5000 + b"\n.", "damaged"),
        (b"\x8e" + struct.pack("<Q", 1 << 60) + b"x.", "damaged"),
        (PYTHON_2.replace(b"U\x02u1", b"U\x02O8"), "not one of uint8"),
        (PYTHON_2.replace(b"K\x02K\x03\x86", b"K\x02K\x04\x86"), "not one of uint8"),
        (PYTHON_2.replace(b"U\x06\x00\x01\x80\xfe\xff\n", b"J\x00\x00\x00\x7f"), "not one of"),
        (PYTHON_2.replace(b"cnumpy\ndtype", b"cnumpy\nndarray"), "not one of uint8"),
    ],
)
def test_everything_else_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_pickled_table(write(tmp_path, content))


def test_a_huge_memo_index_takes_no_memory(tmp_path: Path) -> None:
    path = write(tmp_path, b"}r" + struct.pack("<I", 0xFFFFFFFE) + b".")
    assert read_pickled_table(path) == {}


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_pickled_table(tmp_path / "none")


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_is_refused_or_harmless(tmp_path: Path, data: st.DataObject) -> None:
    """Any bytes changed or cut: a clear error, or a table of the kinds of values there are."""
    content = bytearray(PYTHON_2)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    try:
        table = read_pickled_table(write(tmp_path, bytes(content[:cut])))
    except DataError:
        return
    for value in table.values():
        assert isinstance(value, str | int | list | tuple | dict | np.ndarray | None), value
