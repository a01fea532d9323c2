"""The comparison of runs."""

from __future__ import annotations

import json
from pathlib import Path

import fake_run
import pytest

from epigram import report
from epigram.errors import ConfigError
from epigram.report.comparison import NOT_SET


def write(folder: Path, **config: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_every_setting_that_differs_and_no_other(tmp_path: Path) -> None:
    one = write(tmp_path / "one", seed=0, train={"epochs": 3, "decay": True}, identity="a")
    two = write(
        tmp_path / "two", seed=0, train={"epochs": 4, "decay": True, "clip": 1.0}, identity="b"
    )
    found = report.compare([one, two], tmp_path / "out")
    assert {d.setting: d.values for d in found.differences} == {
        "train.epochs": ("3", "4"),
        "train.clip": (NOT_SET, "1"),
    }
    assert found.names == ("one", "two")
    assert found.plot is None
    assert "differ in 2 settings" in found.html.read_text("utf-8")
    assert str(found) == str(found.html)


def test_numbers_that_differ_late_are_told_apart(tmp_path: Path) -> None:
    one = write(tmp_path / "one", rate=0.1234567891, on=True)
    two = write(tmp_path / "two", rate=0.1234567892, on=1)
    found = report.compare([one, two], tmp_path / "out")
    assert [d.setting for d in found.differences] == ["rate", "on"]
    assert all(len(set(d.values)) == 2 for d in found.differences)


def test_curves_on_one_plot(runs: dict[str, Path], tmp_path: Path) -> None:
    other = fake_run.write_mlp(tmp_path / "mlp", epochs=2, seed=1, prior="group-horseshoe")
    found = report.compare([runs["mlp"], other, runs["plain"]], tmp_path / "out")
    assert found.plot == tmp_path / "out" / "curves.png"
    assert found.plot.stat().st_size > 5000
    assert len(set(found.names)) == 3
    html = found.html.read_text("utf-8")
    assert "group-horseshoe" in html
    assert html.count("<img") == 1


def test_same_settings(tmp_path: Path) -> None:
    folders = [write(tmp_path / name, seed=3) for name in ("one", "two")]
    found = report.compare(folders, tmp_path / "out")
    assert found.differences == ()
    assert "have the same settings" in found.html.read_text("utf-8")


def test_one_run_cannot_be_compared(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two or more"):
        report.compare([write(tmp_path / "one")], tmp_path)


def test_settings_of_a_run_have_short_names(runs: dict[str, Path], tmp_path: Path) -> None:
    other = fake_run.write_plain(tmp_path / "other", epochs=4, seed=1)
    found = report.compare([runs["plain"], other], tmp_path / "out")
    assert [(d.setting, d.values) for d in found.differences] == [("seed", ("0", "1"))]
