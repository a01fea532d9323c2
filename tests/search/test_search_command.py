"""What runs a trial is part of what it is: by its content, not by where it lies."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.search import toy

from epigram.errors import ConfigError, RunFolderError
from epigram.runner import FakeExecutor
from epigram.search import Command, Driver, History, ledger
from epigram.search.identity import file_digest


def script(where: Path, text: str = "print(1)\n", name: str = "train.py") -> Path:
    where.mkdir(exist_ok=True)
    (where / name).write_text(text)
    return where / name


def drive(folder: Path, path: Path, trials: int = 2, **more: Any) -> History:
    with toy.open_study(folder, **more) as study:
        executor = FakeExecutor(toy.trial, slots=1)
        command = Command((sys.executable, str(path), "{folder}"))
        Driver(study, executor, command, trials=trials, clock=lambda: executor.now).run()
        return study.history


def test_a_digest_is_of_the_content_and_read_in_pieces(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "a").write_bytes(content)
    assert file_digest(tmp_path / "a") == hashlib.sha256(content).hexdigest()
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        file_digest(tmp_path / "b")


def test_files_that_a_command_names_are_its_scripts_and_installed_programs_are_not(
    tmp_path: Path,
) -> None:
    path, other = script(tmp_path), script(tmp_path, "lr: 1\n", name="b.yaml")
    words = (sys.executable, "-u", str(path), f"--config={other}", "{folder}", "/no/such", "a.py")
    named = [one["name"] for one in Command(words).scripts()]
    assert named == ["train.py", "b.yaml"]
    assert Command((str(path), "{folder}")).scripts()[0]["name"] == "train.py"
    assert Command(("/bin/sh", str(path))).scripts()[0]["name"] == "train.py"
    assert Command((str(path), "{folder}"), files=()).scripts() == []
    assert Command(("x",), files=(str(other),)).scripts()[0]["name"] == "b.yaml"
    with pytest.raises(ConfigError, match="cannot be read"):
        Command(("x",), files=("/no/such",)).scripts()


def test_another_script_in_its_place_is_refused_and_nothing_is_started(tmp_path: Path) -> None:
    path = script(tmp_path / "code")
    first = drive(tmp_path / "study", path)
    before = (tmp_path / "study" / ledger.LEDGER).read_bytes()
    script(tmp_path / "code", "print(2)\n")
    with pytest.raises(
        RunFolderError, match=r"files that trials run have changed.*train\.py .*train\.py"
    ):
        drive(tmp_path / "study", path, trials=3)
    after = (tmp_path / "study" / ledger.LEDGER).read_bytes()
    assert [json.loads(one)["type"] for one in after[len(before) :].splitlines()] == ["opened"]
    history = drive(tmp_path / "study", path, trials=3, allow_code_change=True)
    assert [trial.run_id for trial in history][:2] == [trial.run_id for trial in first]
    assert len(history) == 3
    script(tmp_path / "code")
    with pytest.raises(RunFolderError, match="files that trials run have changed"):
        drive(tmp_path / "study", path, trials=3)


def test_a_script_that_moved_is_the_same_and_another_one_makes_other_runs(tmp_path: Path) -> None:
    whole = [t.run_id for t in drive(tmp_path / "whole", script(tmp_path / "code"), trials=3)]
    moved = script(tmp_path / "elsewhere", name="renamed.py")
    drive(tmp_path / "study", script(tmp_path / "code"))
    history = drive(tmp_path / "study", moved, trials=3)
    assert [trial.run_id for trial in history] == whole
    other = script(tmp_path / "code", "print(2)\n")
    assert not {t.run_id for t in drive(tmp_path / "other", other, trials=3)} & set(whole)


def test_a_ledger_that_does_not_say_what_ran_is_gone_on_with(tmp_path: Path) -> None:
    with toy.open_study(tmp_path / "study") as study:
        study.record("driver", {"containment": "subreaper"})
    assert len(drive(tmp_path / "study", script(tmp_path / "code"))) == 2
