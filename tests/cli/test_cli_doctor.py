"""doctor finds what is there and says what is missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from epigram import cli
from epigram.cli import doctor


def test_doctor_reports_versions_devices_data_and_disk(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["versions"]["torch"] == torch.__version__.partition("+")[0] or (
        found["versions"]["torch"] == torch.__version__
    )
    assert found["devices"]["processors"] >= 1
    assert found["disk_free_bytes"] > 0
    assert found["data"]["looked_in"]
    assert cli.main(["doctor"]) == 0
    assert "nothing is missing" in capsys.readouterr().out


def test_doctor_says_where_it_looked_for_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EPIGRAM_DATA", str(tmp_path))
    assert str(tmp_path) in doctor.data()["looked_in"]


def test_what_is_missing_is_named_and_is_a_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1))
    version = doctor.version
    monkeypatch.setattr(doctor, "version", lambda n: None if n == "constriction" else version(n))
    assert cli.main(["doctor"]) == 2
    errors = capsys.readouterr().err
    assert "constriction is not installed: pip install constriction" in errors
    assert "only 0 MiB free" in errors
