"""What a file says reaches a terminal as text: no colours, no moved cursor, no letters turned around."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from epigram import cli, codec
from epigram.cli.inspect import printable
from epigram.records import CodedTensor, FileContents, GroupEdit, RawTensor

HOSTILE = "\x1b[31m\x1b]0;title\x07\r\n\x7f\x9b2J\u202e\u2028"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    contents = FileContents(
        (
            CodedTensor(f"w{HOSTILE}", (3,), np.array([1, 0, 2], np.int32), 0.5),
            RawTensor(f"b{HOSTILE}", (2,), np.zeros(2, np.float32)),
        ),
        (GroupEdit(f"g{HOSTILE}", np.array([True, False])),),
        {f"key{HOSTILE}": f"value{HOSTILE}"},
        {f"n{HOSTILE}": 3},
    )
    path = tmp_path / "hostile.epg"
    path.write_bytes(codec.encode(contents, profile="named"))
    return path


def test_inspect_prints_nothing_but_text(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", str(file)]) == 0
    out = capsys.readouterr().out
    assert all(sign.isprintable() for sign in out.replace("\n", ""))
    for name in ("w", "b", "g", "key", "value", "n", "biases/w", "raw/b"):
        assert f"{name}\\x1b[31m" in out


def test_json_says_names_as_they_are(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", str(file), "--json"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\r" not in out
    told = json.loads(out)
    assert told["tensors"][0]["name"] == f"w{HOSTILE}"
    assert told["metadata"] == {f"key{HOSTILE}": f"value{HOSTILE}"}


def test_words_of_any_language_stay_as_they_are() -> None:
    assert printable("größe 大きさ") == "größe 大きさ"
