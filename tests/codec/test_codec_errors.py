"""A caller's mistakes are named, and so is the wrong class for a file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from epigram import codec
from epigram.errors import ConfigError, FormatError
from epigram.records import CodedTensor, FileContents, GroupEdit, RawTensor

SYMBOLS = np.array([[1, 0, -2], [0, 0, 5]], dtype=np.int32)
GOOD = CodedTensor("fc.weight", (4, 3), SYMBOLS, 0.5)


def tensor(**changes: Any) -> CodedTensor:
    fields = {"name": "fc.weight", "dense_shape": (4, 3), "symbols": SYMBOLS, "step_size": 0.5}
    return CodedTensor(**(fields | changes))


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (FileContents((GOOD, GOOD)), "two of this name"),
        (FileContents((tensor(dense_shape=(4,)),)), "as many axes"),
        (FileContents((tensor(dense_shape=(1, 3)),)), "none longer"),
        (FileContents((tensor(step_size=0.3),)), "0.296875|0.3"),
        (FileContents((tensor(live=np.array([True, True, False])),)), "dead positions"),
        (FileContents((tensor(live=np.array([True, True])),)), "one boolean per position"),
        (FileContents((tensor(live=np.array([True] * 3), live_axis=2),)), "axis 2"),
        (FileContents((RawTensor("s", (2,), np.array(["a", "b"])),)), "raw tensor of"),
        (FileContents((tensor(name="\ud800"),)), "Unicode"),
        (FileContents((GOOD,), (GroupEdit("fc", np.ones((2, 2), bool)),)), "boolean per unit"),
        (FileContents((GOOD,), (), {"k": "x" * 300_000}), "names and metadata"),
        (FileContents((tensor(cosine=True),)), "fc.weight: got coefficients of shape"),
        (FileContents((GOOD,), numbers={"fc.heads": -1}), "fc.heads: got the number -1"),
        (FileContents((GOOD,), numbers={"fc.heads": 2**31}), "fc.heads: got the number"),
    ],
)
def test_contents_that_cannot_be_written_are_named(contents: FileContents, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        codec.encode(contents)


def test_too_many_values_for_the_default_reader_are_refused_at_once() -> None:
    huge = np.broadcast_to(np.zeros((1, 1), dtype=np.int32), (1 << 14, 1 << 14))
    with pytest.raises(ConfigError, match="max_elements"):
        codec.encode(FileContents((CodedTensor("w", huge.shape, huge, 0.5),)))


def test_names_out_of_order_are_refused() -> None:
    with pytest.raises(ConfigError, match="in this order"):
        codec.encode(FileContents((GOOD, tensor(name="b"))), state_names=["b", "fc.weight"])


def test_a_bare_file_needs_shapes() -> None:
    with pytest.raises(FormatError, match="state_dict order"):
        codec.decode(codec.encode(FileContents((GOOD,))))


def test_a_bare_file_tells_another_network() -> None:
    data = codec.encode(FileContents((GOOD,)))
    refused = 0
    for rows in range(5, 205):
        with pytest.raises(FormatError, match=r"fc\.weight \(\d+, 3\)"):
            codec.decode(data, dense_shapes={"fc.weight": (rows, 3)})
        refused += 1
    assert refused == 200
    with pytest.raises(FormatError, match="the file holds 1"):
        codec.decode(data, dense_shapes={"fc.weight": (4, 3), "fc.bias": (4,)})


def test_a_named_file_tells_the_tensor_that_differs() -> None:
    data = codec.encode(FileContents((GOOD,)), profile="named")
    with pytest.raises(FormatError, match=r"fc\.weight: got \(4, 5\).*\(4, 3\)"):
        codec.decode(data, dense_shapes={"fc.weight": (4, 5)})
    with pytest.raises(FormatError, match=r"fc\.weight: in the file, but not among other"):
        codec.decode(data, dense_shapes={"other": (4, 3)})


def test_limits_are_checked_and_say_how_to_raise_them() -> None:
    live = np.array([True, False, True])
    dead = tensor(symbols=np.array([[9, 0, 8]] * 4, dtype=np.int32), live=live)
    edits = (GroupEdit("g", np.array([True, False])),)
    data = codec.encode(FileContents((dead,), edits), profile="named")
    for cap in (
        "max_file_bytes",
        "max_tensors",
        "max_rank",
        "max_elements",
        "max_text_bytes",
        "max_mask_bits",
    ):
        with pytest.raises(FormatError, match=f"Limits\\({cap}="):
            codec.decode(data, limits=codec.Limits(**{cap: 0}))
