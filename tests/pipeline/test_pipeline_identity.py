"""A run is known again by everything that makes its result, and by nothing else."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch.nn.functional as F
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st
from tests.contracts.other_settings import changed
from tests.pipeline.tiny_recipe import identity, recipe, settings
from torch import Tensor, nn

from epigram import config, report
from epigram.data import Augment, Preprocess
from epigram.errors import InterruptedRunError, RunFolderError
from epigram.pipeline import CompressSettings, compress_recipe, evaluate_file
from epigram.pipeline.source import tree_digest

BOOKKEEPING = {
    "checkpoint_every_epochs", "checkpoint_every_seconds", "guard_every_steps", "page",
    "tensorboard",
}  # fmt: skip
KEYS = sorted(config.dotted_keys(CompressSettings))


@pytest.mark.parametrize("key", KEYS)
def test_a_setting_changes_the_identity_unless_it_is_bookkeeping(key: str) -> None:
    other = changed(settings(), key)
    assert other != settings()
    same = identity(settings=other) == identity()
    assert same == (key.rpartition(".")[2] in BOOKKEEPING)


@profile(max_examples=25)
@given(st.sets(st.sampled_from(KEYS), max_size=6))
def test_settings_do_not_make_up_for_each_other(keys: set[str]) -> None:
    other = functools.reduce(changed, sorted(keys), settings())
    only_bookkeeping = all(key.rpartition(".")[2] in BOOKKEEPING for key in keys)
    assert (identity(settings=other) == identity()) == only_bookkeeping


def worst(logits: Tensor, targets: Tensor) -> float:
    return float((logits.argmax(1) == targets).float().min())


PREPROCESS, AUGMENT = Preprocess(0.5, 0.25), Augment(shift=1)


@pytest.mark.parametrize(
    "more",
    [
        {"name": "tiny/other"},
        {"build": nn.Identity},
        {"load_data": len},
        {"loss_fn": F.nll_loss},
        {"loss_fn": functools.partial(F.cross_entropy, label_smoothing=0.1)},
        {"loss_fn": nn.CrossEntropyLoss()},
        {"metrics": {"worst": worst, "nll": F.nll_loss}},
        {"metrics": {"other": worst}},
        {"preprocess": None},
        {"preprocess": Preprocess(0.5, 0.26)},
        {"augment": replace(AUGMENT, shift=2)},
        {"augment": replace(AUGMENT, flip=True)},
        {"sources": ("json",)},
    ],
    ids=lambda more: next(iter(more)),
)
def test_every_part_of_the_recipe_changes_the_identity(more: dict[str, Any]) -> None:
    base: dict[str, Any] = {
        "preprocess": PREPROCESS, "augment": AUGMENT, "metrics": {"worst": worst},
    }  # fmt: skip
    assert identity(**base) != identity(**{**base, **more})
    again = {**base, "preprocess": Preprocess(0.5, 0.25), "augment": Augment(shift=1)}
    assert identity(**base) == identity(**again)


def test_the_code_is_every_source_file_by_place_and_bytes(tmp_path: Path) -> None:
    def digest(**files: str) -> str:
        root = tmp_path / str(len(list(tmp_path.iterdir())))
        for name, text in files.items():
            path = root / name.replace("__", "/").replace("_py", ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tree_digest(root)

    base = digest(a_py="x", b__c_py="y")
    assert base == digest(b__c_py="y", a_py="x", b__notes="z")
    others = [
        digest(a_py="x", b__c_py="z"), digest(a_py="x", b__d_py="y"), digest(a_py="xy", b__c_py=""),
        digest(a_py="x", b__c_py="y", b__d_py=""), digest(a_py="x"),
    ]  # fmt: skip
    assert len({base, *others}) == 6


@pytest.mark.usefixtures("no_report")
def test_other_bookkeeping_goes_on_and_ends_with_the_same_bytes(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """A whole run (seconds): only its file shows that it ended as if nothing had been changed."""
    folder, result = finished
    kept = json.loads((folder / "config.json").read_text())
    assert kept["bookkeeping"]["structure"]["checkpoint_every_epochs"] == 1
    assert not BOOKKEEPING & set(kept["config"]["settings"]["structure"])
    asked = settings()
    for stage in ("plain", "structure", "finetune"):
        asked = config.with_overrides(
            asked, {stage: {"checkpoint_every_epochs": 4, "guard_every_steps": 7}}
        )
    told = compress_recipe(recipe(), asked, folder, progress=None)
    assert told == json.loads(json.dumps(result)), "a finished run is read"

    begun = settings(plain=replace(settings().plain, checkpoint_every_seconds=1e-3))
    with pytest.raises(InterruptedRunError):
        compress_recipe(recipe(), begun, tmp_path, progress=None, max_minutes=1e-3)
    compress_recipe(recipe(), asked, tmp_path, progress=None)
    assert (tmp_path / "model.epg").read_bytes() == (folder / "model.epg").read_bytes()


def test_what_other_code_made_is_read_but_not_gone_on_with(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writes the page twice (seconds), since that is what a reader does."""
    folder, result = finished
    with pytest.raises(InterruptedRunError):
        compress_recipe(recipe(), folder=tmp_path / "begun", progress=None, max_minutes=1e-6)
    before = (folder / "model.epg").read_bytes()
    monkeypatch.setattr("epigram.pipeline.job.code", lambda: "0" * 16)
    with pytest.raises(RunFolderError, match="result was made by other code"):
        compress_recipe(recipe(), folder=folder, progress=None)
    with pytest.raises(RunFolderError, match="changed since; start in another folder"):
        compress_recipe(recipe(), folder=tmp_path / "begun", progress=None)
    assert (folder / "model.epg").read_bytes() == before
    told = evaluate_file(folder / "model.epg", recipe())
    assert told["test_error_percent"] == result["test_error_percent"]
    assert report.build(folder).is_file()
    found = report.compare([folder, tmp_path / "begun"], tmp_path / "compared")
    assert [difference.setting for difference in found.differences] == []
