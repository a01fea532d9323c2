"""Run identity is opt-out: whatever setting is changed, it is another run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from tests.contracts.other_settings import changed
from tests.search import toy

from epigram import recipes
from epigram.errors import ConfigError, RunFolderError
from epigram.pipeline import CompressSettings
from epigram.search import Real, Space, folder
from epigram.search.identity import resolved, run_id


def leaves(settings: object, prefix: str = "") -> list[tuple[str, bool]]:
    """Every field of a settings tree: dotted name, and whether it is bookkeeping."""
    found = []
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            found += leaves(value, f"{prefix}{field.name}.")
        else:
            found.append((prefix + field.name, bool(field.metadata.get("bookkeeping"))))
    return found


ALL = leaves(recipes.get("lenet-5/mnist").settings)


@pytest.mark.parametrize(("name", "is_bookkeeping"), ALL, ids=[one[0] for one in ALL])
def test_each_setting_makes_another_run_unless_it_is_bookkeeping(
    name: str, is_bookkeeping: bool
) -> None:
    base = recipes.get("lenet-5/mnist").settings
    other = changed(base, name)
    if name == "seed":  # a trial's seed takes its place
        assert resolved(base, {}, seed=0) == resolved(other, {}, seed=0)
        assert run_id(resolved(base, {}, seed=0)[0]) != run_id(resolved(base, {}, seed=1)[0])
        return
    same = run_id(resolved(base, {}, seed=0)[0]) == run_id(resolved(other, {}, seed=0)[0])
    assert same is is_bookkeeping


def test_a_setting_added_later_is_in_the_identity_by_default() -> None:
    later = dataclasses.make_dataclass(
        "Later",
        [("new", int, dataclasses.field(default=1))],
        bases=(CompressSettings,),
        frozen=True,
    )
    ids = {run_id(resolved(later(new=new), {}, seed=0)[0]) for new in (1, 2)}
    assert len(ids) == 2


@pytest.mark.parametrize(
    "more",
    [{"task": {"data": "b"}}, {"code": "new"}, {"base": {**toy.BASE, "epochs": 7}}, {"seed": 3}],
    ids=["data", "code", "settings", "seed"],
)
def test_data_code_settings_and_seed_each_make_another_run(
    more: dict[str, Any], tmp_path: Path
) -> None:
    with toy.open_study(tmp_path / "a", task={"data": "a"}, code="old") as study:
        first = study.ask()
    with toy.open_study(tmp_path / "b", **({"task": {"data": "a"}, "code": "old"} | more)) as study:
        assert study.ask().run_id != first.run_id
    with toy.open_study(tmp_path / "c", task={"data": "a"}, code="old") as study:
        assert study.ask().run_id == first.run_id


def test_a_folder_of_another_configuration_is_refused_and_left_alone(tmp_path: Path) -> None:
    folder.claim(tmp_path / "run", {"run_id": "a", "lr": 0.1})
    folder.claim(tmp_path / "run", {"run_id": "a", "lr": 0.1})
    before = (tmp_path / "run" / "config.json").read_bytes()
    with pytest.raises(RunFolderError, match=r"lr: 0.1 there, 0.2 now.*nothing was overwritten"):
        folder.claim(tmp_path / "run", {"run_id": "a", "lr": 0.2})
    assert (tmp_path / "run" / "config.json").read_bytes() == before
    (tmp_path / "run" / "config.json").write_bytes(b"\0" * 50)  # what a power cut may leave
    folder.claim(tmp_path / "run", {"run_id": "a", "lr": 0.1})
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_a_study_refuses_other_settings_other_code_and_strangers(tmp_path: Path) -> None:
    with toy.open_study(tmp_path / "a", code="old"):
        pass
    with (
        pytest.raises(RunFolderError, match=r"space.lr.* there, .* now"),
        toy.open_study(tmp_path / "a", code="old", space=Space({"lr": Real(0.1, 0.2)})),
    ):
        pass
    with (
        pytest.raises(RunFolderError, match="code that trials run has changed"),
        toy.open_study(tmp_path / "a", code="new"),
    ):
        pass
    with toy.open_study(tmp_path / "a", code="new", allow_code_change=True):
        pass
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.tex").touch()
    with (
        pytest.raises(RunFolderError, match=r"holds thesis.tex but no study.json"),
        toy.open_study(tmp_path / "b"),
    ):
        pass


def test_a_task_that_is_no_plain_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^task: .*plain data"):
        toy.open_study(tmp_path, task={"net": object()})


def test_the_trial_gets_everything_written_out(tmp_path: Path) -> None:
    with toy.open_study(tmp_path) as study:
        asked = study.ask()
    stored = json.loads((asked.folder / "config.json").read_text())
    assert stored["settings"] == {**toy.BASE, **asked.values, "seed": 0}
    assert (stored["run_id"], stored["attempt"], stored["seed"]) == (asked.run_id, 1, 0)
