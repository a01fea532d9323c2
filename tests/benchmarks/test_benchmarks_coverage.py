"""coverage.py says what happened to a network, also when it goes wrong."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path

import coverage_network
import coverage_outputs
import pytest
import torch
from coverage_models import Case
from torch import nn

from epigram.errors import RemovalError, UnsupportedModelError

_PATH = Path(__file__).resolve().parents[2] / "benchmarks" / "coverage.py"
_SPEC = importlib.util.spec_from_file_location("network_coverage", _PATH)  # a package has its name
coverage = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(coverage)


def case(build, side=8) -> Case:
    def inputs(generator):
        return (torch.randn(2, 3, side, side, generator=generator),)

    return Case("own", "net", build, inputs)


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 10, 3), nn.BatchNorm2d(10), nn.ReLU(), nn.Flatten(), nn.Linear(360, 4)
    )


@pytest.fixture
def without_onnx(monkeypatch):
    monkeypatch.setattr(coverage_network, "onnx", lambda model, inputs: "ok")


def test_a_network_goes_through_every_step(tmp_path, without_onnx):
    note = coverage_network.Note(case(network), tmp_path / "note.json")
    coverage_network.run(case(network), note)
    note.write()
    read = json.loads((tmp_path / "note.json").read_text())
    assert set(read["seconds"]) == set(coverage_network.STEPS)
    assert read["units"] == {"groups": 1, "units": 10}
    assert 0.25 < read["removed_share"] < 0.35
    assert read["difference"] < 1e-9
    assert read["peak_rss_bytes"] > 1 << 20


def test_a_removal_that_changes_the_output_is_called_wrong(tmp_path, without_onnx, monkeypatch):
    def spoiled(model, plan):
        small = remove(model, plan)
        with torch.no_grad():
            small[0].bias.add_(1.0)
        return small

    remove = coverage_network.remove_units
    monkeypatch.setattr(coverage_network, "remove_units", spoiled)
    note = coverage_network.Note(case(network), tmp_path / "note.json")
    with pytest.raises(RemovalError, match="outputs differ"):
        coverage_network.run(case(network), note)
    assert note.data["at"] == "verify"


def test_about_a_third_of_the_units_goes_and_one_always_stays():
    keep = coverage_network.random_masks({"a": 100, "b": 1, "c": 2})
    assert [int(m.sum()) for m in keep.values()] == [70, 1, 1]


def test_nothing_to_remove_is_not_ok(tmp_path, without_onnx):
    """A network that is left whole from end to end does not count as covered."""

    def build() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 4))

    note = coverage_network.Note(case(build), tmp_path / "note.json")
    with pytest.raises(UnsupportedModelError, match="left whole"):
        coverage_network.run(case(build), note)
    assert note.data["at"] == "analyse"


def test_a_comparison_of_what_nobody_hears_is_refused():
    silent = network().eval()
    silent[4].weight.data.zero_()
    image = torch.randn(2, 3, 8, 8)
    with pytest.raises(FloatingPointError, match="changes nothing"):
        coverage_outputs.change(silent, silent, (image,))


class Finds(nn.Module):
    """A detector that finds so many boxes."""

    def __init__(self, boxes: int) -> None:
        super().__init__()
        self.boxes = boxes

    def forward(self, x):
        return [{"boxes": x.flatten()[:4].expand(self.boxes, 4)}]


def test_a_comparison_of_empty_outputs_is_refused():
    image = (torch.randn(2, 3, 8, 8),)
    for before in (0, 3):
        with pytest.raises(FloatingPointError, match="outputs are empty"):
            coverage_outputs.change(Finds(before), Finds(0), image)
    assert coverage_outputs.change(Finds(3), Finds(2), image) == 1.0


def test_nothing_to_remove_without_a_reason_is_not_ok(tmp_path, monkeypatch):
    analyse = coverage_network.analyse

    def silent(*args, **more):
        return dataclasses.replace(analyse(*args, **more), groups=(), left_whole=())

    monkeypatch.setattr(coverage_network, "analyse", silent)
    note = coverage_network.Note(case(network), tmp_path / "note.json")
    with pytest.raises(UnsupportedModelError, match="does not say why"):
        coverage_network.run(case(network), note)


def test_networks_run_in_the_order_of_the_globs():
    found = [Case("s", name, network, lambda g: ()) for name in ("a1", "b1", "a2")]
    names = [c.name for c in coverage.in_order(found, ["s/b*", "*"])]
    assert names == ["b1", "a1", "a2"]


def test_summaries_count_and_name_what_failed():
    good = {
        "suite": "s",
        "name": "a",
        "outcome": "ok",
        "onnx": "ok",
        "onnx_of_original": "ok",
        "removed_share": 0.4,
        "peak_rss_bytes": 1 << 30,
        "seconds": {"analyse": 1.0},
    }
    bad = {"suite": "s", "name": "b", "outcome": "failed", "failed_in": "analyse", "reason": "why"}
    found = coverage.summaries([good, bad])["s"]
    assert (found["networks"], found["ok"], found["wrong"]) == (2, 1, 0)
    assert found["not_ok"] == ["b: analyse: why"]
