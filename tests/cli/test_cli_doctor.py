"""doctor finds what is there and says what is missing."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from epigram import cli
from epigram.cli import doctor
from epigram.data import mnist, places


def test_doctor_reports_versions_devices_data_and_disk(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["versions"]["torch"] == importlib.metadata.version("torch")
    assert found["devices"]["processors"] >= 1
    assert found["disk_free_bytes"] > 0
    assert found["containment"]["level"] in ("cgroup", "namespace", "subreaper", "session")
    assert found["data"]["mnist"] == str(mnist.find())
    assert {"cifar10", "cifar10-jpeg", "cifar100"} < found["data"].keys()
    assert cli.main(["doctor"]) == 0
    told = capsys.readouterr().out
    assert "nothing is missing" in told
    assert f"trials are contained by: {found['containment']['level']}" in told


def test_doctor_says_where_it_looked_for_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EPIGRAM_DATA", str(tmp_path / "sets"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(places, "clone_data", list)
    classes = [tmp_path / "sets" / "cifar10-jpeg" / split / "cat" for split in ("train", "test")]
    for folder in classes:
        folder.mkdir(parents=True)
    assert cli.main(["doctor"]) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert ["mnist", "not found"] in lines
    assert ["cifar10", "not found"] in lines
    assert ["cifar10-jpeg", str(tmp_path / "sets" / "cifar10-jpeg")] in lines
    assert any(str(tmp_path / "sets") in " ".join(line) for line in lines if line[0] == "data")


def test_weak_containment_is_explained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weak = {"level": "session", "refused": {"cgroup": "no cgroup v2", "subreaper": "not Linux"}}
    monkeypatch.setattr(doctor, "containment", lambda: weak)
    assert cli.main(["doctor"]) == 0
    told = capsys.readouterr().out
    assert "session (a daemon may outlive its trial)" in told
    assert "  not by cgroup: no cgroup v2" in told


def test_what_is_missing_is_named_and_is_a_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1))
    version = doctor.version
    monkeypatch.setattr(doctor, "version", lambda n: None if n == "rich" else version(n))
    assert cli.main(["doctor"]) == 2
    errors = capsys.readouterr().err
    assert "rich is not installed: pip install rich" in errors
    assert "only 0 MiB free" in errors
