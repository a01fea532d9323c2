"""``epigram search --weights`` and ``--from``: the content counts, not the path; trials look again."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import save_file
from tests.pipeline import tiny_recipe

from epigram.cli import search, search_call, starts, trial
from epigram.errors import ConfigError, RunFolderError
from epigram.search import Asked

NETWORK = """
from tests.pipeline import tiny_recipe
build, loaders = tiny_recipe.TinyNet, tiny_recipe.splits
"""


@pytest.fixture(autouse=True)
def _own_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(NETWORK)
    save(tmp_path / "weights.safetensors", value=0.1)
    (tmp_path / "trained").mkdir()
    save(tmp_path / "trained" / "plain.safetensors", value=0.1)


def save(path: Path, *, value: float) -> None:
    tensors = tiny_recipe.TinyNet().state_dict()
    save_file({name: tensor.fill_(value) for name, tensor in tensors.items()}, path)


WORDS = """
--model mine:build --data mine:loaders --floor accuracy>=0.5 --vary structure.kl_weight=0.1..1 --out s
"""


def call(*words: str) -> search_call.Search:
    found = search_call.read(search.parser(), [*WORDS.split(), *words])
    assert isinstance(found, search_call.Search)
    return found


def first(*words: str) -> Asked:
    """Open the study, or go on with it, and ask for a trial."""
    with search._study(call(*words)) as study:
        return study.ask()


STARTS = [("--weights", "weights.safetensors", ""), ("--from", "trained", "plain.safetensors")]


@pytest.mark.parametrize(("flag", "path", "inside"), STARTS, ids=["weights", "from"])
def test_the_same_content_elsewhere_is_the_same_study_and_other_content_is_not(
    flag: str, path: str, inside: str, tmp_path: Path
) -> None:
    run_id = first(flag, path).run_id
    shutil.move(tmp_path / path, tmp_path / "moved")
    moved = first(flag, "moved")
    assert (moved.run_id, moved.attempt) == (run_id, 2)
    save(tmp_path / "moved" / inside, value=0.2)
    key = f"{flag.removeprefix('--')}_sha256"
    with pytest.raises(
        RunFolderError, match=rf"belongs to another study \(.*{key}: '.*' there, '.*' now"
    ):
        first(flag, "moved")


@pytest.mark.parametrize(("flag", "path", "inside"), STARTS, ids=["weights", "from"])
def test_a_trial_refuses_content_that_changed_after_the_study_began(
    flag: str, path: str, inside: str, tmp_path: Path
) -> None:
    asked = first(flag, path)
    told = search.command(call(flag, path)).argv[3:]
    assert told == ("{folder}", flag, str(tmp_path / path))
    assert search.command(call(flag, path)).scripts() == []
    with pytest.raises(ConfigError, match=f"{flag}: missing"):
        trial.run([str(asked.folder)])
    save(tmp_path / path / inside, value=0.2)
    with pytest.raises(ConfigError, match="content has changed since the study was begun"):
        trial.run([str(asked.folder), *told[1:]])


def test_what_trials_may_start_from_is_checked_when_a_search_begins() -> None:
    Path("empty").mkdir()
    with pytest.raises(ConfigError, match=r"--from empty: holds no plain\.safetensors"):
        first("--from", "empty")
    nothing = argparse.Namespace(from_folder=None, weights=None)
    assert (starts.words(nothing), starts.digests(nothing)) == ((), {})


def test_no_path_is_in_what_a_trial_is(tmp_path: Path) -> None:
    stored = json.loads(
        (first("--weights", "weights.safetensors").folder / "config.json").read_text()
    )
    assert "weights.safetensors" not in json.dumps(stored)
    assert str(tmp_path / "weights") not in json.dumps(stored["task"])
