"""inspect and unpack, on real files; broken ones are refused in one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from epigram import cli, codec
from epigram.records import CodedTensor, FileContents, GroupEdit, RawTensor


def contents() -> FileContents:
    symbols = np.array([[0, 1, -2], [3, 0, 0]], dtype=np.int32)
    return FileContents(
        tensors=(
            CodedTensor("0.weight", (8, 4), np.resize(symbols, (5, 4)), 0.25),
            RawTensor("0.bias", (8,), np.linspace(0, 1, 5, dtype=np.float32)),
            CodedTensor("2.weight", (2, 8), np.resize(symbols, (2, 5)), 0.5),
            RawTensor("2.bias", (2,), np.zeros(2, dtype=np.float32)),
        ),
        edits=(GroupEdit("0", np.array([True] * 5 + [False] * 3)),),
        metadata={"recipe": "tiny/noise"},
    )


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("named.epg").write_bytes(codec.encode(contents(), profile="named"))
    Path("bare.epg").write_bytes(codec.encode(contents(), profile="bare"))
    return tmp_path


def test_inspect_accounts_for_every_byte(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("named.epg", "bare.epg"):
        assert cli.main(["inspect", name, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert sum(found["breakdown"].values()) == Path(name).stat().st_size == found["file_bytes"]


def test_inspect_says_where_symbols_are_coefficients(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kernels = np.ones((2, 3, 3, 3), dtype=np.int32)
    held = FileContents((CodedTensor("w", kernels.shape, kernels, 0.5, cosine=True),))
    for profile in ("named", "bare"):
        Path("k.epg").write_bytes(codec.encode(held, profile=profile))
        assert cli.main(["inspect", "k.epg", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["tensors"][0] if profile == "named" else found)["cosine"] is True
    Path("k.epg").write_bytes(codec.encode(held, profile="named"))
    assert cli.main(["inspect", "k.epg"]) == 0
    assert "coefficients" in capsys.readouterr().out


def test_inspect_shows_a_person_what_is_in_a_named_file(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["inspect", "named.epg"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "profile named, checksum ok" in lines[0]
    assert any(line.split()[:4] == ["0.weight", "symbols", "5x4", "8x4"] for line in lines)
    assert any(line.split() == ["0", "5", "8"] for line in lines)
    assert "recipe: tiny/noise" in lines


def test_a_bare_file_is_broken_down_by_the_figures_beside_it(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = Path("bare.epg").stat().st_size
    recorded = {"header": 5, "symbols": {"0.weight": size - 9}, "checksum": 4}
    Path("result.json").write_text(json.dumps({"file_bytes": size, "breakdown": recorded}))
    assert cli.main(["inspect", "bare.epg"]) == 0
    assert f"symbols/0.weight  {size - 9:>5}" in capsys.readouterr().out
    Path("result.json").write_text(json.dumps({"file_bytes": size + 1, "breakdown": recorded}))
    assert cli.main(["inspect", "bare.epg"]) == 0
    assert "symbols/0.weight" not in capsys.readouterr().out, "those are another file's figures"


def test_unpack_writes_the_small_networks_tensors(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["unpack", "named.epg", "--out", "small.safetensors"]) == 0
    assert "0.weight  5x4" in capsys.readouterr().out
    tensors = load_file("small.safetensors")
    for expected in contents().tensors:
        np.testing.assert_array_equal(tensors[expected.name], expected.values())


@pytest.mark.parametrize("profile", ["bare", "named"])
def test_numbers_of_modules_are_shown_and_unpacked(
    files: Path, capsys: pytest.CaptureFixture[str], profile: Literal["bare", "named"]
) -> None:
    held = replace(contents(), numbers={"0.attention.num_heads": 3})
    Path("heads.epg").write_bytes(codec.encode(held, profile=profile))
    assert cli.main(["inspect", "heads.epg"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["0.attention.num_heads", "3"] in lines
    if profile == "bare":
        return
    assert cli.main(["unpack", "heads.epg", "--out", "small.safetensors"]) == 0
    with safe_open("small.safetensors", "np") as opened:
        assert json.loads(opened.metadata()["numbers"]) == {"0.attention.num_heads": 3}


def test_unpack_asks_whose_tensors_a_bare_file_holds(
    files: Path, pipeline: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    data = codec.encode(contents(), profile="bare")
    Path("bare.epg").write_bytes(data)
    assert cli.main(["unpack", "bare.epg", "--out", "small.safetensors"]) == 2
    assert "say whose with --recipe" in capsys.readouterr().err
    assert not Path("small.safetensors").exists()


def test_unpack_refuses_a_folder_that_does_not_exist(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["unpack", "named.epg", "--out", "none/small.safetensors"]) == 2
    assert "its folder does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["inspect"], ["unpack", "--out", "x.safetensors"]])
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:],
        lambda data: data[:3] + bytes([0xF1]) + data[4:],
        lambda data: b"PK\x03\x04" + data,
        lambda data: data + b"\x00",
    ],
    ids=["cut by a byte", "cut in half", "empty", "bit flipped", "version", "a zip", "longer"],
)
def test_a_damaged_file_is_refused_in_one_line(
    command: list[str], damage: Any, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad.epg").write_bytes(damage(Path("named.epg").read_bytes()))
    assert cli.main([command[0], "bad.epg", *command[1:]]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("epigram: ")
    assert printed.err.count("\n") == 1


def test_an_oversized_file_is_refused_before_it_is_read(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path("huge.epg").open("wb") as file:
        file.truncate(codec.Limits().max_file_bytes + 1)  # sparse: takes no room on the disk
    assert cli.main(["inspect", "huge.epg"]) == 2
    assert "expected at most" in capsys.readouterr().err
