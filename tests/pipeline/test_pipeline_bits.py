"""The bits pass: what it writes, that it can be resumed, and what is asked is what is held."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.pipeline.tiny_recipe import TinyConvNet, TinyNet, bits_settings, recipe, splits

from epigram import artifact
from epigram.convert import CodingSettings
from epigram.errors import ConfigError, InterruptedRunError
from epigram.evaluate import evaluate
from epigram.pipeline import bits, compress_recipe
from epigram.pipeline.candidates import Candidate, Front
from epigram.pipeline.files import Rung
from epigram.pipeline.job import Job
from epigram.pipeline.run import compress_recipe as run_compress
from epigram.records import FileContents, Floor
from epigram.train import read_metrics


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A finished run with a structure pass and a bits pass."""
    folder = tmp_path_factory.mktemp("bits") / "tiny"
    made = recipe(settings=bits_settings(), floor="accuracy>=0.8")
    return folder, compress_recipe(made, folder=folder, progress=None)


def test_the_file_is_what_the_run_says_it_is(passed: tuple[Path, dict]) -> None:
    folder, result = passed
    size = (folder / "model.epg").stat().st_size
    assert result["file_bytes"] == size == sum(result["breakdown"].values())
    assert abs(result["predicted_bytes"] - size) <= 40
    assert result["quantize_price"] is None
    small = artifact.load(folder / "model.epg", into=TinyNet())
    assert result["floor"]["validation_value"] == pytest.approx(
        evaluate(small, splits().validation).accuracy
    )
    assert result["floor"]["met"] and result["floor"]["reason"] is None
    assert result["units"]["fc1"]["after"] == small.fc1.out_features <= 16
    assert (folder / "report" / "index.html").is_file()


def test_it_is_no_larger_than_the_ladder_makes_it(
    passed: tuple[Path, dict], tmp_path: Path
) -> None:
    ladder = replace(bits_settings(), bits=replace(bits_settings().bits, epochs=0))
    made = recipe(settings=ladder, floor="accuracy>=0.8")
    other = compress_recipe(made, folder=tmp_path / "ladder", progress=None)
    assert passed[1]["file_bytes"] <= other["file_bytes"]


def test_every_epoch_says_predicted_and_actual_bytes(passed: tuple[Path, dict]) -> None:
    lines = read_metrics(passed[0] / "metrics.jsonl", stage="bits")
    assert len(lines) == 10
    for line in lines:
        assert abs(line["predicted_bytes"] - line["actual_bytes"]) <= 40
        assert line["multiplier"] > 0 and "constraint" in line and line["rate_bytes"] > 0
    assert len({line["multiplier"] for line in lines}) > 1
    assert lines[0]["multiplier"] == 1.0


def test_without_a_structure_pass_it_starts_from_the_plain_network(
    tmp_path: Path, no_report: None
) -> None:
    made = recipe(
        build=TinyConvNet, settings=bits_settings(structure_epochs=0), floor="accuracy>=0.6"
    )
    result = compress_recipe(made, folder=tmp_path / "direct", progress=None)
    assert "pruning" not in result and result["paper_counts"] is None
    assert result["units"]["conv"]["before"] == 6
    small = artifact.load(tmp_path / "direct" / "model.epg", into=TinyConvNet()).eval()
    assert torch.equal(small.norm.weight, torch.ones_like(small.norm.weight))
    assert torch.equal(small.norm.running_var, torch.ones_like(small.norm.running_var))
    assert result["floor"]["validation_value"] == pytest.approx(
        evaluate(small, splits().validation).accuracy
    )
    with pytest.raises(ConfigError, match="no posterior without a structure pass"):
        compress_recipe(made, folder=tmp_path / "kept", progress=None, keep_posterior=True)


def test_stopped_in_the_middle_it_ends_with_the_same_bytes(tmp_path: Path, no_report: None) -> None:
    made = recipe(settings=bits_settings(structure_epochs=0))
    whole = compress_recipe(made, folder=tmp_path / "whole", progress=None)
    with pytest.raises(InterruptedRunError):
        compress_recipe(made, folder=tmp_path / "cut", progress=None, max_minutes=0.01)
    resumed = compress_recipe(made, folder=tmp_path / "cut", progress=None)
    first, second = ((tmp_path / n / "model.epg").read_bytes() for n in ("whole", "cut"))
    assert first == second and whole["predicted_bytes"] == resumed["predicted_bytes"]


def test_a_budget_is_kept_and_the_metric_made_best(tmp_path: Path, no_report: None) -> None:
    made = recipe(settings=bits_settings())
    result = run_compress(made, folder=tmp_path / "b", budget=130, progress=None)
    assert result["budget"] == {"bytes": 130, "met": True} and result["floor"]["met"]
    assert result["file_bytes"] <= 130 and result["floor"]["value"] is None
    assert result["floor"]["validation_value"] > 0.6
    config = json.loads((tmp_path / "b" / "config.json").read_text())["config"]
    assert config["floor"] == "accuracy in 130 bytes"


def test_a_budget_that_is_too_small_is_said_to_be(tmp_path: Path, no_report: None) -> None:
    short = bits_settings()
    made = recipe(settings=replace(short, bits=replace(short.bits, epochs=2)))
    result = compress_recipe(made, folder=tmp_path / "b", budget=20, progress=None)
    assert not result["floor"]["met"] and not result["budget"]["met"]
    assert "more than the budget" in result["floor"]["reason"]


@pytest.mark.parametrize("metric", [None, "nll"])
def test_a_budget_without_a_bits_pass_is_a_rung(
    metric: str | None, tmp_path: Path, no_report: None
) -> None:
    folder = tmp_path / "b"
    result = compress_recipe(recipe(), folder=folder, budget=500, metric=metric, progress=None)
    assert result["budget"]["met"] and result["file_bytes"] <= 500
    assert result["floor"]["metric"] == (metric or "accuracy")


def test_a_drop_is_relative_to_the_plain_network(tmp_path: Path, no_report: None) -> None:
    made = recipe(settings=bits_settings())
    result = compress_recipe(made, folder=tmp_path / "d", max_drop=0.1, progress=None)
    plain = artifact.load(tmp_path / "d" / "model.epg", into=TinyNet())
    del plain
    from safetensors.torch import load_file

    net = TinyNet()
    net.load_state_dict(load_file(tmp_path / "d" / "plain.safetensors"))
    reached = evaluate(net, splits().validation).accuracy
    assert result["floor"]["value"] == pytest.approx(reached - 0.1)
    assert result["floor"]["met"] == (
        result["floor"]["validation_value"] >= result["floor"]["value"]
    )


def test_a_floor_out_of_reach_is_missed_with_a_reason(tmp_path: Path, no_report: None) -> None:
    made = recipe(settings=bits_settings(), floor="accuracy>=0.9999")
    result = compress_recipe(made, folder=tmp_path / "f", force=True, progress=None)
    assert not result["floor"]["met"]
    assert "on validation" in result["floor"]["reason"]
    assert (tmp_path / "f" / "model.epg").is_file()


@pytest.mark.parametrize("floor", ["nll<=0.5", "error<=0.2", "margin>=0.5"])
def test_it_holds_any_metric(floor: str, tmp_path: Path, no_report: None) -> None:
    def margin(logits: torch.Tensor, targets: torch.Tensor) -> float:
        best = logits.gather(1, targets[:, None])[:, 0]
        return float((best - logits.mean(1)).mean())

    made = recipe(settings=bits_settings(structure_epochs=0), metrics={"margin": margin})
    result = compress_recipe(made, folder=tmp_path / "m", floor=floor, progress=None)
    assert result["floor"]["met"]
    lines = read_metrics(tmp_path / "m" / "metrics.jsonl", stage="bits")
    assert all("constraint" in line for line in lines)


@pytest.mark.parametrize(
    "coding",
    [
        CodingSettings(prior="laplace"),
        CodingSettings(prior="spike", axes=(0, 1)),
        CodingSettings(learned_steps=False),
        CodingSettings(rate_of="rounded"),
        CodingSettings(rate_of="matched"),
    ],
    ids=[
        "laplace",
        "spike with rows and columns",
        "fixed steps",
        "rate of rounded symbols",
        "matched prior",
    ],
)
def test_every_way_of_coding_trains(
    coding: CodingSettings, tmp_path: Path, no_report: None
) -> None:
    short = bits_settings(structure_epochs=0, coding=coding)
    made = recipe(settings=replace(short, bits=replace(short.bits, epochs=3)))
    result = compress_recipe(made, folder=tmp_path / "c", progress=None, force=True)
    assert result["file_bytes"] > 0


def test_only_one_thing_can_be_asked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="more than one"):
        compress_recipe(recipe(), folder=tmp_path, budget=100, max_drop=0.1)
    with pytest.raises(ConfigError, match="more than one"):
        compress_recipe(recipe(), folder=tmp_path, budget=100, floor="accuracy>=0.5")
    with pytest.raises(ConfigError, match="max_drop: got -1"):
        compress_recipe(recipe(), folder=tmp_path, max_drop=-1.0)


def test_between_cycles_symbols_thaw_and_the_multiplier_moves(tmp_path: Path) -> None:
    base = bits_settings()
    bits = replace(base.bits, epochs=9, cycles=3)
    settings = replace(base, bits=bits, coding=replace(base.coding, freeze_from=0.3))
    compress_recipe(
        recipe(settings=settings, floor="accuracy>=0.8"), folder=tmp_path / "run", progress=None
    )
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl", stage="bits")
    multipliers = [line["multiplier"] for line in lines]
    assert all(len(set(multipliers[i : i + 3])) == 1 for i in (0, 3, 6))
    assert len(set(multipliers)) == 3
    rates = [line["learning_rate"] for line in lines]
    assert rates[3] > rates[2] and rates[6] > rates[5]
    frozen = [line["frozen_share"] for line in lines]
    assert frozen[2] > 0.0 and frozen[3] < frozen[2]


def test_the_smallest_file_that_meets_the_floor_on_both_splits_is_returned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(recipe(), bits_settings(), tmp_path, Floor("accuracy", 0.9), None, None, harder=0.05)
    judged = {10: 0.95, 20: 0.88, 30: 0.91, 40: 0.97}
    front = Front(job.floor)
    for size, control in zip(judged, (0.89, 0.905, 0.92, 0.96), strict=True):
        front.offer(Candidate(1, data=bytes(size), predicted_bytes=size, control=control))
    asked: list[int] = []

    def judge(job: Job, candidate: Candidate) -> Rung:
        size = candidate.size_bytes
        asked.append(size)
        return Rung(None, FileContents(()), size, candidate.control, judged[size])

    monkeypatch.setattr(bits, "_judged", judge)
    rung, met = bits.choose_candidate(job, front)
    assert met and rung.predicted_bytes == 30
    assert asked == [20, 30]  # control has refused the first
    judged |= {20: 0.88, 30: 0.87, 40: 0.89}
    rung, met = bits.choose_candidate(job, front)
    assert not met and rung.predicted_bytes == 40


def test_validation_sees_them_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third of six is the first that holds there; strides would have passed it over."""
    job = Job(recipe(), bits_settings(), tmp_path, Floor("accuracy", 0.9), None, None)
    front = Front(job.floor)
    for size in range(10, 70, 10):
        front.offer(Candidate(1, data=bytes(size), predicted_bytes=size, control=0.95))
    asked: list[int] = []

    def judge(job: Job, candidate: Candidate) -> Rung:
        size = candidate.size_bytes
        asked.append(size)
        return Rung(None, FileContents(()), size, candidate.control, 0.95 if size >= 30 else 0.85)

    monkeypatch.setattr(bits, "_judged", judge)
    rung, met = bits.choose_candidate(job, front)
    assert met and rung.predicted_bytes == 30
    assert asked == [10, 20, 30]


def test_validation_sees_only_what_met_the_floor_on_control(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of files of other sizes a larger one may be worse on control; it is passed over, and so is a lucky validation."""
    job = Job(recipe(), bits_settings(), tmp_path, Floor("accuracy", 0.9), None, None, harder=0.05)
    judged = {10: 0.89, 20: 0.95, 30: 0.91, 40: 0.97}
    front = Front(job.floor)
    for size, control in zip(judged, (0.91, 0.89, 0.92, 0.88), strict=True):
        front.offer(Candidate(1, data=bytes(size), predicted_bytes=size, control=control))

    def judge(job: Job, candidate: Candidate) -> Rung:
        size = candidate.size_bytes
        return Rung(None, FileContents(()), size, candidate.control, judged[size])

    monkeypatch.setattr(bits, "_judged", judge)
    rung, met = bits.choose_candidate(job, front)
    assert met and rung.predicted_bytes == 30
    judged |= {10: 0.89, 30: 0.89}
    front.offer(Candidate(2, data=bytes(25), predicted_bytes=25, control=0.905))
    front.offer(Candidate(3, data=bytes(33), predicted_bytes=33, control=0.903))
    judged |= {25: 0.88, 33: 0.88}
    assert not bits.choose_candidate(job, front)[1]
    judged[30] = 0.91
    assert bits.choose_candidate(job, front)[0].predicted_bytes == 30
    job.floor = Floor("accuracy", 0.93)
    rung, met = bits.choose_candidate(job, front)
    assert not met and rung.predicted_bytes == 30  # the best on control, not the largest
