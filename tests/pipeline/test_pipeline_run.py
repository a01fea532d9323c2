"""What a run leaves, and that all of it fits together."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.pipeline.tiny_recipe import TinyConvNet, TinyNet, examples, recipe, settings, splits
from torch import nn

from epigram import artifact, report
from epigram.data import Splits, TensorSet
from epigram.errors import (
    ConfigError,
    DataError,
    FloorError,
    InterruptedRunError,
    RunFolderError,
    UnsupportedModelError,
)
from epigram.evaluate import evaluate
from epigram.pipeline import check_recipe, compress_recipe, evaluate_file, train_recipe
from epigram.pipeline.job import Job
from epigram.pipeline.results import finite
from epigram.records import Floor

KEYS = {
    "identity", "recipe", "seed", "epigram_version", "environment", "dense_bytes", "file_bytes", "ratio",
    "breakdown", "predicted_bytes", "dense_test_error_percent", "test_error_percent", "test_nll",
    "test_calibration_error", "floor", "paper_counts", "units", "macs", "latency_ms", "load_ms",
    "peak_rss_bytes", "disagreement_percent", "seconds", "splits", "history",
}  # fmt: skip


def test_the_result_is_complete_and_consistent(finished: tuple[Path, dict]) -> None:
    folder, result = finished
    assert result.keys() >= KEYS
    assert json.loads((folder / "result.json").read_text()) == json.loads(json.dumps(result))
    size = (folder / "model.epg").stat().st_size
    assert result["file_bytes"] == size == sum(result["breakdown"].values())
    assert abs(result["predicted_bytes"] - size) <= 40
    assert result["dense_bytes"] == 4 * sum(p.numel() for p in TinyNet().parameters())
    assert result["ratio"] == pytest.approx(result["dense_bytes"] / size, abs=1e-3)
    assert (folder / result["history"]).is_file()
    assert set(result["seconds"]) >= {"plain", "structure", "finetune", "quantize", "verify"}
    assert {k: v["examples"] for k, v in result["splits"].items()} == {
        "fit": 600, "control": 200, "validation": 200, "test": 300,
    }  # fmt: skip
    for key in ("macs", "latency_ms", "load_ms", "peak_rss_bytes"):
        assert set(result[key]) == {"before", "after"}
    assert result["macs"]["before"] == 36 * 16 + 16 * 8 + 8 * 3
    assert not (folder / "trial.epg").exists()


def test_figures_are_those_of_the_decoded_file(finished: tuple[Path, dict]) -> None:
    folder, result = finished
    small = artifact.load(folder / "model.epg", into=TinyNet())
    assert type(small) is TinyNet
    on_test = evaluate(small, splits().test)
    assert result["test_error_percent"] == pytest.approx(on_test.error_percent, abs=1e-9)
    assert result["test_nll"] == pytest.approx(on_test.nll, abs=1e-9)
    validated = evaluate(small, splits().validation).accuracy
    assert result["floor"]["validation_value"] == pytest.approx(validated)
    assert result["floor"]["met"] == (validated >= 0.8)
    told = evaluate_file(folder / "model.epg", recipe())
    assert {k: told[k] for k in ("file_bytes", "ratio", "test_error_percent")} == {
        k: result[k] for k in ("file_bytes", "ratio", "test_error_percent")
    }
    after = {"fc1": small.fc1.out_features, "fc2": small.fc2.out_features}
    assert {name: result["units"][name]["after"] for name in after} == after
    left = int((small.fc1.weight != 0).any(0).sum())
    assert left <= result["units"]["fc1.positions"]["after"] < 36


def test_the_report_gets_what_it_shows(finished: tuple[Path, dict]) -> None:
    folder, result = finished
    assert (folder / "report" / "index.html").is_file()
    with np.load(folder / "report_data.npz") as data:
        assert data["cut"].shape == ()
        for name, units in result["units"].items():
            removability = data[f"removability/{name}"]
            assert removability.shape == (units["before"],)
            assert np.isfinite(removability).sum() >= units["after"]
        assert data["pixel_importance"].shape == (6, 6)
        assert data["pixel_importance"].max() == pytest.approx(1)
        assert data["sample_images"].dtype == np.uint8
        assert data["sample_images"].shape[1:] == (6, 6)
        assert data["sample_labels"].tolist() == [0, 1, 2]
        bins = [data[f"calibration_{k}"] for k in ("confidence", "accuracy", "count")]
        assert len({len(b) for b in bins}) == 1
        assert bins[2].sum() == 300
    frames = sorted(p.name for p in (folder / "frames").iterdir())
    epochs = {"finetune": 2, "plain": 3, "structure": 6}
    assert frames == [f"{s}-{e:04d}.npz" for s, n in epochs.items() for e in range(1, n + 1)]
    with np.load(folder / "frames" / frames[-1]) as frame:
        assert frame["first"].shape == (16, 36)
        assert frame["second"].shape == (8, 16)
        gone = np.isnan(frame["first"]).all(1)
        assert (np.isnan(frame["second"]).all(0) == gone).all()


def test_a_finished_run_is_read(
    finished: tuple[Path, dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, result = finished
    monkeypatch.setattr("epigram.pipeline.run.plain_stage", None)  # would fail if called
    again = compress_recipe(recipe(), folder=folder, progress=None)
    assert again == json.loads(json.dumps(result))
    built = []
    monkeypatch.setattr(report, "build", built.append)
    page = folder / "report" / "index.html"
    text = page.read_text()
    page.unlink()
    compress_recipe(recipe(), folder=folder, progress=None)
    page.write_text(text)
    assert built == [folder]


@pytest.mark.parametrize("change", ["settings", "floor", "network", "data", "loss"])
def test_another_configuration_is_refused(finished: tuple[Path, dict], change: str) -> None:
    folder, _ = finished
    other, floor = recipe(), "accuracy>=0.8"
    if change == "settings":
        other = recipe(settings=settings(seed=1))
    if change == "floor":
        floor = "accuracy>=0.7"
    if change == "network":
        other = recipe(
            build=lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 3))
        )
    if change == "data":
        other = recipe(load_data=lambda: replace(splits(), fit=examples(600, seed=9, name="fit")))
    if change == "loss":
        other = recipe(loss_fn=torch.nn.functional.multi_margin_loss)
    with pytest.raises(RunFolderError, match="other settings"):
        compress_recipe(other, folder=folder, floor=floor, progress=None)


def test_the_posterior_is_kept_on_request(finished: tuple[Path, dict]) -> None:
    from safetensors.torch import load_file

    folder, result = finished
    tensors = load_file(folder / "posterior.safetensors")
    means = [t for n, t in tensors.items() if n.endswith(("weight_mean", "bias_mean"))]
    assert sum(t.numel() for t in means) == result["parameters"]["after"]
    assert all(torch.isfinite(t).all() for t in tensors.values())


@pytest.mark.usefixtures("no_report")
def test_a_floor_that_only_just_holds_costs_bytes(
    finished: tuple[Path, dict], tmp_path: Path
) -> None:
    """A higher floor takes a larger file; one beyond reach gives the best there is, and says so."""
    folder, lower = finished
    plain = json.loads((folder / "result.json").read_text())
    higher = compress_recipe(
        recipe(), folder=tmp_path / "b", floor="accuracy>=0.88", from_folder=folder, progress=None
    )
    assert higher["dense_test_error_percent"] == plain["dense_test_error_percent"]
    assert higher["file_bytes"] > lower["file_bytes"]
    beyond = compress_recipe(
        recipe(), folder=tmp_path / "c", floor="accuracy>=0.999", from_folder=folder, force=True,
        progress=None,
    )  # fmt: skip
    assert beyond["floor"]["met"] is False
    assert beyond["floor"]["validation_value"] < 0.999
    assert (tmp_path / "c" / "model.epg").stat().st_size == beyond["file_bytes"]


@pytest.mark.usefixtures("no_report")
def test_a_floor_beyond_the_plain_network_is_refused(
    finished: tuple[Path, dict], tmp_path: Path
) -> None:
    folder, _ = finished
    with pytest.raises(
        FloorError, match=r"accuracy>=0.999 asks for more .* reaches: accuracy 0\.9"
    ):
        compress_recipe(
            recipe(), folder=tmp_path, floor="accuracy>=0.999", from_folder=folder, progress=None
        )
    assert not (tmp_path / "result.json").exists()


def test_an_unknown_metric_is_refused_before_anything(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="accuracy"):
        compress_recipe(recipe(), folder=tmp_path / "run", floor="accurracy>=0.9", progress=None)
    assert not (tmp_path / "run").exists()


def test_what_a_run_would_refuse_can_be_asked_beforehand() -> None:
    check_recipe(recipe(), Floor.parse("accuracy>=0.8"))
    with pytest.raises(ConfigError, match="accuracy"):
        check_recipe(recipe(), Floor.parse("accurracy>=0.9"))
    with pytest.raises(ConfigError, match=r"write '98.2%' or 0.982"):
        check_recipe(recipe(), Floor.parse("accuracy>=98.2"))
    with pytest.raises(UnsupportedModelError, match="without a layer to make variational"):
        check_recipe(recipe(build=nn.Flatten), Floor.parse("accuracy>=0.8"))


def test_a_nan_in_the_data_is_refused_before_anything(tmp_path: Path) -> None:
    def broken() -> Splits:
        images = splits().fit.inputs.clone()
        images[17, 0, 2, 3] = float("nan")
        return replace(splits(), fit=TensorSet(images, splits().fit.targets, "fit"))

    with pytest.raises(DataError, match=r"fit\.inputs: example 17 holds nan"):
        compress_recipe(recipe(load_data=broken), folder=tmp_path / "run", progress=None)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["missing", "other"])
def test_a_source_without_this_network_is_refused(tmp_path: Path, name: str) -> None:
    from safetensors.torch import save_file

    (tmp_path / "other").mkdir()
    save_file({"fc1.weight": torch.ones(2, 2)}, tmp_path / "other" / "plain.safetensors")
    with pytest.raises(RunFolderError, match=r"holds no plain|does not fit a TinyNet"):
        compress_recipe(
            recipe(), folder=tmp_path / "run", from_folder=tmp_path / name, progress=None
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("no_report")
def test_time_is_up_in_order_and_the_run_goes_on(
    finished: tuple[Path, dict], tmp_path: Path
) -> None:
    folder, result = finished
    with pytest.raises(InterruptedRunError, match="the same command goes on"):
        compress_recipe(recipe(), folder=tmp_path, progress=None, max_minutes=1e-6)
    done = compress_recipe(recipe(), folder=tmp_path, progress=None)
    assert (tmp_path / "model.epg").read_bytes() == (folder / "model.epg").read_bytes()
    assert done["test_nll"] == result["test_nll"]


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize(
    "part", ["choose_cut", "choose_file", "write_file", "file_figures", "finish"]
)
def test_ctrl_c_after_training_loses_nothing(
    finished: tuple[Path, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """Whatever does not train is done again; what has trained is not."""
    folder, result = finished

    def interrupted(*args: object, **more: object) -> None:
        raise KeyboardInterrupt

    shutil.copytree(folder / "checkpoints", tmp_path / "checkpoints")
    for name in ("config.json", "metrics.jsonl", "plain.safetensors"):
        shutil.copyfile(folder / name, tmp_path / name)
    with monkeypatch.context() as patch:
        patch.setattr(f"epigram.pipeline.run.{part}", interrupted)
        with pytest.raises(KeyboardInterrupt):
            compress_recipe(recipe(), folder=tmp_path, progress=None)
    assert not (tmp_path / "result.json").exists()
    history = (tmp_path / "metrics.jsonl").read_text()
    again = compress_recipe(recipe(), folder=tmp_path, progress=None)
    assert (tmp_path / "model.epg").read_bytes() == (folder / "model.epg").read_bytes()
    assert again["test_nll"] == result["test_nll"]
    assert (tmp_path / "metrics.jsonl").read_text() == history


@pytest.mark.usefixtures("no_report")
def test_the_time_is_looked_at_between_stages_too(tmp_path: Path) -> None:
    job = Job(recipe(), settings(), tmp_path, None, None, lambda: True)
    with pytest.raises(InterruptedRunError, match="before 'quantize'; the same command goes on"):
        job.check_time("quantize")
    replace(job, stop=None).check_time("quantize")


@pytest.mark.usefixtures("no_report")
def test_training_alone_and_compression_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = train_recipe(recipe(build=TinyConvNet), folder=tmp_path / "a", progress=None)
    assert trained["test_nll"] > 0
    monkeypatch.setattr("epigram.pipeline.run.plain_stage", None)
    assert train_recipe(recipe(build=TinyConvNet), folder=tmp_path / "a", progress=None) == trained
    monkeypatch.undo()
    monkeypatch.setattr(report, "build", lambda folder: None)
    result = compress_recipe(
        recipe(build=TinyConvNet), folder=tmp_path / "b", floor="accuracy>=0.45", force=True,
        from_folder=tmp_path / "a", progress=None,
    )  # fmt: skip
    assert result["dense_test_error_percent"] == trained["dense_test_error_percent"]
    stages = [
        json.loads(line)["stage"]
        for line in (tmp_path / "b/metrics.jsonl").read_text().splitlines()
    ]
    assert stages == ["plain"] * 3 + ["structure"] * 6 + ["finetune"] * 2
    assert (tmp_path / "b/frames/plain-0001.npz").is_file()
    small = artifact.load(tmp_path / "b/model.epg", into=TinyConvNet())
    assert small.norm.num_features == small.conv.out_channels == result["units"]["conv"]["after"]


def test_json_has_no_word_for_nan() -> None:
    assert finite({"a": [1.0, float("nan")], "b": {"c": (float("inf"), 2)}, "d": "nan"}) == {
        "a": [1.0, None], "b": {"c": [None, 2]}, "d": "nan",
    }  # fmt: skip


def test_a_model_without_a_supported_layer_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    with pytest.raises(UnsupportedModelError, match="without a layer to make variational"):
        compress_recipe(recipe(build=nn.Flatten), folder=tmp_path / "run", progress=None)
    assert not (tmp_path / "run").exists()
