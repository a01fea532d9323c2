"""compare prints every setting in which runs differ."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from epigram import cli


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, epochs, seed in (("a", 3, 0), ("b", 5, 0), ("c", 3, 1), ("same", 3, 0)):
        Path(name).mkdir()
        config = {"settings": {"plain": {"epochs": epochs, "clip": None}, "seed": seed}}
        document = {"identity": name, "config": config, "environment": {}}
        Path(name, "config.json").write_text(json.dumps(document), encoding="utf-8")
        line = {"stage": "plain", "epoch": 1, "control": {"accuracy": 0.5}, "train": {"loss": 1.0}}
        Path(name, "metrics.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    return tmp_path


def test_every_difference_is_printed_and_nothing_else(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compare", "a", "b", "c", "--out", "page"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["setting", "a", "b", "c"] in lines
    assert ["plain.epochs", "3", "5", "3"] in lines
    assert ["seed", "0", "0", "1"] in lines
    assert not any("clip" in line[0] for line in lines)


def test_runs_of_the_same_settings_are_said_to_be(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compare", "a", "same", "--out", "page"]) == 0
    assert "the runs have the same settings" in capsys.readouterr().out


def test_compare_as_json(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", "a", "b", "--out", "page", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["differences"] == {"plain.epochs": {"a": "3", "b": "5"}}
    assert Path(found["page"]).is_file()


def test_a_folder_that_is_no_run_is_refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    assert cli.main(["compare", "a", "empty"]) == 2
    assert "empty is not a run's folder" in capsys.readouterr().err
    Path("c/config.json").write_text("{", encoding="utf-8")
    assert cli.main(["compare", "a", "c"]) == 2
    assert "c/config.json" in capsys.readouterr().err
