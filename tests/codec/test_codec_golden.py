"""Files written once are read for ever, and written again to the byte."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from epigram import codec
from epigram.errors import FormatError
from epigram.records import CodedTensor

GOLDEN = Path(__file__).parents[1] / "golden"


def _script() -> Any:
    spec = importlib.util.spec_from_file_location("make_golden", GOLDEN / "make_golden.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT = _script()
EXPECTED = SCRIPT.contents()
DENSE = {tensor.name: tensor.dense_shape for tensor in EXPECTED.tensors}
PROFILES: list[Literal["bare", "named"]] = ["bare", "named"]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("profile", PROFILES)
def test_golden_files_say_what_they_said(profile: Literal["bare", "named"], version: int) -> None:
    data = (GOLDEN / f"v{version}-{profile}.epg").read_bytes()
    assert codec.inspect(data)["format_version"] == version
    got = codec.decode(data, dense_shapes=DENSE)
    for ours, theirs in zip(got.tensors, EXPECTED.tensors, strict=True):
        assert (ours.name, ours.dense_shape) == (theirs.name, theirs.dense_shape)
        np.testing.assert_array_equal(ours.values(), theirs.values())
        assert ours.values().dtype == theirs.values().dtype
        if isinstance(theirs, CodedTensor) and isinstance(ours, CodedTensor):
            np.testing.assert_array_equal(ours.symbols, theirs.symbols)
            assert ours.step_size == theirs.step_size
            assert (ours.live is None) == (theirs.live is None)
    if profile == "named":
        assert got.metadata == EXPECTED.metadata
        assert [e.kept.tolist() for e in got.edits] == [e.kept.tolist() for e in EXPECTED.edits]


@pytest.mark.parametrize("profile", PROFILES)
def test_the_same_contents_give_the_same_bytes(profile: Literal["bare", "named"]) -> None:
    assert codec.encode(EXPECTED, profile=profile) == SCRIPT.path(profile).read_bytes()


@pytest.mark.parametrize("profile", PROFILES)
def test_numbers_of_modules_are_held_beside_the_rest(profile: Literal["bare", "named"]) -> None:
    expected = SCRIPT.with_numbers()
    data = SCRIPT.path(profile, "numbers").read_bytes()
    assert codec.encode(expected, profile=profile) == data
    got = codec.decode(data, dense_shapes=DENSE)
    assert dict(got.numbers) == dict(expected.numbers)
    for ours, theirs in zip(got.tensors, expected.tensors, strict=True):
        np.testing.assert_array_equal(ours.values(), theirs.values())
    assert codec.inspect(data)["numbers"] == dict(expected.numbers)
    assert codec.breakdown(data, dense_shapes=DENSE).total == len(data)
    assert len(data) - len(SCRIPT.path(profile).read_bytes()) < 60


@pytest.mark.parametrize("profile", PROFILES)
def test_coefficients_of_kernels_are_held(profile: Literal["bare", "named"]) -> None:
    expected = SCRIPT.with_coefficients()
    data = SCRIPT.path(profile, "cosine").read_bytes()
    assert codec.encode(expected, profile=profile) == data
    dense = {tensor.name: tensor.dense_shape for tensor in expected.tensors}
    got = codec.decode(data, dense_shapes=dense)
    for ours, theirs in zip(got.tensors, expected.tensors, strict=True):
        np.testing.assert_array_equal(ours.values(), theirs.values())
    whole = -859_199_397  # units of 2**-30 steps, of the first place: what any reader gets
    assert got.tensors[0].values()[0, 0, 0, 0] == np.float32(0.0625 * whole * 2.0**-30)
    assert codec.breakdown(data, dense_shapes=dense).total == len(data)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_flip_of_a_byte_is_refused(profile: Literal["bare", "named"]) -> None:
    data = SCRIPT.path(profile).read_bytes()
    for place in range(len(data)):
        for change in (*(1 << bit for bit in range(8)), 0xFF, 0x5A):
            damaged = bytearray(data)
            damaged[place] ^= change
            with pytest.raises(FormatError):
                codec.decode(bytes(damaged), dense_shapes=DENSE)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_truncation_and_every_extension_is_refused(profile: Literal["bare", "named"]) -> None:
    data = SCRIPT.path(profile).read_bytes()
    for length in range(len(data)):
        with pytest.raises(FormatError):
            codec.decode(data[:length], dense_shapes=DENSE)
    for more in (b"\0", b"\xff", data):
        with pytest.raises(FormatError):
            codec.decode(data + more, dense_shapes=DENSE)


def test_inspection_needs_neither_model_nor_torch() -> None:
    named = codec.inspect(SCRIPT.path("named").read_bytes())
    assert named["units"]["conv1"] == {"kept": 2, "dense": 6}
    assert named["metadata"] == EXPECTED.metadata
    assert [entry["name"] for entry in named["tensors"]] == list(DENSE)
    assert sum(named["breakdown"].values()) == named["file_bytes"]
    bare = codec.inspect(SCRIPT.path("bare").read_bytes())
    assert [entry["kind"] for entry in bare["tensors"]] == [e["kind"] for e in named["tensors"]]
    assert sum(bare["breakdown"].values()) == bare["file_bytes"]
