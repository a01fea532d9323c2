"""A folder belongs to one configuration and to one process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from epigram.errors import RunFolderError, StorageError
from epigram.train import RunFolder, read_config

CONFIG = {"recipe": "lenet-5/mnist", "seed": 0, "plain": {"epochs": 3, "learning_rate": 0.1}}


def test_a_new_folder_says_what_runs_in_it(tmp_path: Path) -> None:
    kept = {"plain": {"tensorboard": False}}
    with RunFolder(tmp_path / "a", CONFIG, bookkeeping=kept, environment={"torch": "2"}) as run:
        stored = json.loads((run.path / "config.json").read_text())
    assert stored == {
        "identity": run.identity,
        "config": CONFIG,
        "bookkeeping": kept,
        "environment": {"torch": "2"},
    }
    assert read_config(run.path) == stored


def test_the_same_configuration_goes_on_whatever_environment_and_bookkeeping(
    tmp_path: Path,
) -> None:
    same = dict(reversed(CONFIG.items()))
    for version in ("2", "3"):
        with RunFolder(tmp_path, same, bookkeeping={"v": version}, environment={"v": version}):
            pass
    assert read_config(tmp_path)["environment"] == {"v": "2"}
    assert read_config(tmp_path)["bookkeeping"] == {"v": "2"}


def test_another_configuration_is_refused_with_the_settings_that_differ(tmp_path: Path) -> None:
    with RunFolder(tmp_path, CONFIG):
        pass
    before = (tmp_path / "config.json").read_bytes()
    other = {**CONFIG, "plain": {"epochs": 5, "learning_rate": 0.1}}
    with pytest.raises(RunFolderError, match=r"plain\.epochs: 3 there, 5 now") as caught:
        RunFolder(tmp_path, other).__enter__()
    assert "learning_rate" not in str(caught.value)
    assert (tmp_path / "config.json").read_bytes() == before
    with RunFolder(tmp_path, CONFIG):
        pass  # the refused one has not kept the lock


@pytest.mark.parametrize("finished", [False, True])
def test_other_code_is_refused_as_such(tmp_path: Path, finished: bool) -> None:
    with RunFolder(tmp_path, {**CONFIG, "code": "a" * 16}):
        pass
    if finished:
        (tmp_path / "result.json").write_text("{}")
    for config in ({**CONFIG, "code": "b" * 16}, CONFIG):  # what has no code is of another time
        with pytest.raises(
            RunFolderError, match="code has changed since; start in another"
        ) as told:
            RunFolder(tmp_path, config).__enter__()
        assert ("result was made by other code" in str(told.value)) == finished
        assert "there" not in str(told.value)


def test_a_function_whose_source_changed_is_named(tmp_path: Path) -> None:
    with RunFolder(tmp_path, {"loss_fn": f"mine.loss#{'a' * 16}", "metrics": {"f1": "mine.f1"}}):
        pass
    other = {"loss_fn": f"mine.loss#{'b' * 16}", "metrics": {"f1": "yours.f1"}}
    with pytest.raises(RunFolderError) as told:
        RunFolder(tmp_path, other).__enter__()
    assert "(loss_fn: mine.loss has changed (its source, or values that it carries); " in str(
        told.value
    )
    assert "metrics.f1: 'mine.f1' there, 'yours.f1' now" in str(told.value)


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    holder = (
        "import sys\nfrom epigram.train import RunFolder\n"
        f"with RunFolder({str(tmp_path)!r}, {CONFIG!r}):\n"
        "    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(RunFolderError, match=f"pid {process.pid}"):
            RunFolder(tmp_path, CONFIG).__enter__()
        process.kill()
        process.wait()
        with RunFolder(tmp_path, CONFIG):
            pass  # the lock went with its holder


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("dear reader")
    with pytest.raises(RunFolderError, match=r"thesis\.tex"):
        RunFolder(tmp_path, CONFIG).__enter__()
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"identity": 3, "config": {}}', "null"])
def test_a_config_that_is_not_ours_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(RunFolderError, match="not a run's folder"):
        RunFolder(tmp_path, CONFIG).__enter__()


def test_a_file_in_the_way_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(StorageError, match="run folder"):
        RunFolder(tmp_path / "a", CONFIG).__enter__()
