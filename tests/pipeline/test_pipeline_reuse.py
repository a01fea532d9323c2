"""A structure pass is done once for all floors, where none steers it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from tests.pipeline.tiny_recipe import bits_settings, recipe, settings

from epigram.errors import ConfigError, RunFolderError
from epigram.pipeline import CompressSettings, SteerSettings, compress_recipe, train_recipe
from epigram.train import read_config, read_metrics

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


def test_a_steered_pass_serves_its_own_floor_only(tmp_path: Path) -> None:
    used = replace(settings(), steer=SteerSettings())
    train_recipe(recipe(), used, tmp_path / "plain", progress=None)
    _, there = _compress(tmp_path / "first", tmp_path / "plain", "accuracy>=0.8", used)
    other_bits = replace(used, coding=replace(used.coding, learned_steps=False))
    assert _compress(tmp_path / "same", tmp_path / "first", "accuracy>=0.8", other_bits)[1] == there
    assert _compress(tmp_path / "other", tmp_path / "first", "accuracy>=0.7", used)[1] != there


def test_a_warm_start_goes_on_with_the_multiplier_of_the_other_run(tmp_path: Path) -> None:
    used = replace(settings(), steer=SteerSettings(begin=0.0, rate=0.5))
    train_recipe(recipe(), used, tmp_path / "plain", progress=None)
    _compress(tmp_path / "first", tmp_path / "plain", "accuracy>=0.5", used)
    there = read_metrics(tmp_path / "first" / "metrics.jsonl", stage="structure")[-1]
    assert there["multiplier"] > 2.0  # so easy a floor leaves room
    halved = replace(used.structure, kl_weight=0.5 * used.structure.kl_weight)
    warm = replace(used, structure=halved, steer=replace(used.steer, warm=True))
    _compress(tmp_path / "warm", tmp_path / "first", "accuracy>=0.6", warm)
    here = read_metrics(tmp_path / "warm" / "metrics.jsonl", stage="structure")[0]
    assert here["multiplier"] == pytest.approx(2.0 * there["multiplier"])
    again = read_config(tmp_path / "warm")["config"]
    assert again["weights_from"] == {"structure": pytest.approx(there["multiplier"])}


def test_the_weight_begins_where_the_room_of_the_plain_network_says(tmp_path: Path) -> None:
    used = bits_settings(structure_epochs=2, steer=SteerSettings(anticipate=2.0))
    used = replace(used, bits=replace(used.bits, epochs=2))
    train_recipe(recipe(), used, tmp_path / "plain", progress=None)
    begun = {}
    for floor in ("accuracy>=0.5", "accuracy>=0.8"):
        _compress(tmp_path / floor, tmp_path / "plain", floor, used)
        first, bits = (
            read_metrics(tmp_path / floor / "metrics.jsonl", stage=stage)[0]
            for stage in ("structure", "bits")
        )
        plain = read_metrics(tmp_path / floor / "metrics.jsonl", stage="plain")[-1]
        lost, allowed = 1.0 - plain["control"]["accuracy"], 1.0 - float(floor.split(">=")[1])
        begun[floor] = first["multiplier"]
        assert begun[floor] == pytest.approx(math.exp(2.0 * (1.0 - lost / allowed)), rel=1e-6)
        assert bits["multiplier"] == begun[floor]
    assert begun["accuracy>=0.5"] > begun["accuracy>=0.8"] > 1.0


def test_a_warm_start_needs_a_run_that_was_steered(
    first: tuple[Path, Path], tmp_path: Path
) -> None:
    warm = replace(settings(), steer=SteerSettings(warm=True))
    with pytest.raises(RunFolderError, match="no multiplier was moved there"):
        _compress(tmp_path / "a", first[1], "accuracy>=0.8", warm)
    with pytest.raises(ConfigError, match="expected --from RUN with it"):
        compress_recipe(recipe(), warm, tmp_path / "b", floor="accuracy>=0.8", progress=None)
