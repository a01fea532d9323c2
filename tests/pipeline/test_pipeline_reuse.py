"""A structure pass is done once for all floors, where none steers it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.pipeline.tiny_recipe import recipe, settings

from epigram.pipeline import CompressSettings, SteerSettings, compress_recipe, train_recipe
from epigram.train import read_metrics

UNSTEERED = replace(settings(), steer=SteerSettings(structure=False))


def _compress(
    folder: Path, source: Path, floor: str, used: CompressSettings = UNSTEERED
) -> tuple[bytes, list[float]]:
    """The file, and how long the epochs of the structure pass took (which tells runs apart)."""
    compress_recipe(
        recipe(), used, folder, floor=floor, from_folder=source, force=True, progress=None
    )
    lines = read_metrics(folder / "metrics.jsonl", stage="structure")
    assert [line["epoch"] for line in lines] == list(range(1, used.structure.epochs + 1))
    return (folder / "model.epg").read_bytes(), [line["seconds"] for line in lines]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A plain network, and a compression of it."""
    folder = tmp_path_factory.mktemp("reuse")
    train_recipe(recipe(), UNSTEERED, folder / "plain", progress=None)
    _compress(folder / "first", folder / "plain", "accuracy>=0.9")
    return folder / "plain", folder / "first"


def test_another_floor_takes_it_over_and_ends_with_the_same_file(
    first: tuple[Path, Path], tmp_path: Path
) -> None:
    plain, run = first
    taken, seconds = _compress(tmp_path / "taken", run, "accuracy>=0.8")
    anew, own = _compress(tmp_path / "anew", plain, "accuracy>=0.8")
    assert taken == anew
    there = [line["seconds"] for line in read_metrics(run / "metrics.jsonl", stage="structure")]
    assert seconds == there != own
    frames = [sorted(f.name for f in (p / "frames").iterdir()) for p in (run, tmp_path / "taken")]
    assert frames[0] == frames[1]


@pytest.mark.parametrize(
    "other",
    [
        replace(UNSTEERED, seed=1),
        replace(UNSTEERED, structure=replace(UNSTEERED.structure, kl_weight=0.5)),
        replace(UNSTEERED, steer=SteerSettings(structure=True)),
    ],
    ids=["seed", "structure", "steered"],
)
def test_what_would_be_another_pass_is_done_anew(
    first: tuple[Path, Path], tmp_path: Path, other: CompressSettings
) -> None:
    there = read_metrics(first[1] / "metrics.jsonl", stage="structure")
    _, seconds = _compress(tmp_path / "run", first[1], "accuracy>=0.8", other)
    assert seconds != [line["seconds"] for line in there]
