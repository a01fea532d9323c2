"""Units change places, the network stays the same, and the file becomes smaller."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.pipeline.tiny_recipe import TinyConvNet, recipe, settings
from torch import Tensor, nn

from epigram import codec
from epigram.pipeline import compress_recipe, ordering
from epigram.pipeline.files import Rung, decoded, holds, write_file
from epigram.pipeline.job import Job
from epigram.pipeline.ordering import best_order, in_order, movable, ordered
from epigram.records import CodedTensor, FileContents, Floor
from epigram.structure import analyse


class Wider(nn.Module):
    """As TinyConvNet, with units enough for their order to matter."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 12, 3)
        self.fc1 = nn.Linear(48, 24)
        self.fc2 = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.max_pool2d(torch.relu(self.conv(x)), 2)
        return self.fc2(torch.relu(self.fc1(torch.flatten(x, 1))))


def _job(folder: Path, build: type[nn.Module] = Wider, **more: int) -> Job:
    used = settings()
    used = replace(used, quantize=replace(used.quantize, **more))
    return Job(replace(recipe(), build=build), used, folder, Floor("accuracy", 0.1), None, None)


def _contents(model: nn.Module, *, live: bool = True) -> FileContents:
    """Symbols of units of very different strength, every other one nearly silent."""
    random = np.random.RandomState(0)
    tensors = []
    for name, value in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        shape = tuple(value.shape)
        strength = np.where(np.arange(shape[0]) % 2, 4.0, 0.3).reshape(-1, *[1] * (len(shape) - 1))
        symbols = np.round(random.laplace(scale=strength, size=shape)).astype(np.int32)
        if name.endswith("running_var"):
            symbols = np.abs(symbols) + 1
        mask = None
        if live and name == "fc1.weight":
            mask = random.rand(shape[1]) < 0.7
            symbols[:, ~mask] = 0
        tensors.append(CodedTensor(name, shape, symbols, 0.125, mask))
    return FileContents(tuple(tensors))


@pytest.mark.parametrize("build", [Wider, TinyConvNet])
def test_another_order_is_the_same_network(tmp_path: Path, build: type[nn.Module]) -> None:
    job = _job(tmp_path, build)
    contents = _contents(job.build())
    network = decoded(job, contents)
    groups = movable(network, contents, job)
    assert [group.name for group in groups] == ["conv", "fc1"]
    random = np.random.RandomState(1)
    order = {group.name: random.permutation(group.units) for group in groups}
    other = in_order(contents, groups, order)
    images = job.splits.control.inputs
    torch.testing.assert_close(decoded(job, other)(images), network(images), rtol=1e-4, atol=1e-4)
    back = {name: np.argsort(places) for name, places in order.items()}
    again = in_order(other, groups, back)
    for a, b in zip(again.tensors, contents.tensors, strict=True):
        assert isinstance(a, CodedTensor) and isinstance(b, CodedTensor)
        np.testing.assert_array_equal(a.symbols, b.symbols)
        if b.live is not None:
            assert a.live is not None
            np.testing.assert_array_equal(a.live, b.live)


def test_the_search_finds_a_smaller_file_and_always_the_same(tmp_path: Path) -> None:
    job = _job(tmp_path)
    contents = _contents(job.build())
    groups = movable(decoded(job, contents), contents, job)
    best = best_order(contents, groups, tries=40)
    assert codec.stream_bits(best) < codec.stream_bits(contents)
    assert codec.encode(best) == codec.encode(best_order(contents, groups, tries=40))
    assert best_order(contents, (), tries=9) is contents
    assert best_order(contents, groups, tries=0) is contents


def test_bits_of_the_stream_are_the_bytes_of_the_file(tmp_path: Path) -> None:
    contents = _contents(_job(tmp_path).build())
    size = codec.size_estimate(contents)
    inside = 8 * (size.total - size.header - size.checksum)
    assert inside - 8 < codec.stream_bits(contents) <= inside


def test_units_that_are_wired_otherwise_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group of which a member is forgotten is not interchangeable: found by trying."""
    job = _job(tmp_path)
    contents = _contents(job.build())
    network = decoded(job, contents)
    found = analyse(network, job.example)
    wrong = replace(found.groups[0], members=found.groups[0].members[:-1])
    broken = replace(found, groups=(wrong, *found.groups[1:]))
    monkeypatch.setattr(ordering, "analyse", lambda *_, **__: broken)
    assert [group.name for group in movable(network, contents, job)] == ["fc1"]


def test_what_was_judged_is_judged_again(tmp_path: Path) -> None:
    job = _job(tmp_path, order_tries=30)
    contents = _contents(job.build())
    rung = Rung(None, contents, codec.size_estimate(contents).total, 0.0, 0.0)
    found = ordered(job, rung, met=False)
    assert found.predicted_bytes == len(codec.encode(found.contents)) < rung.predicted_bytes
    model = decoded(job, contents)
    assert found.control == pytest.approx(job.measure(job.splits.control)(model), abs=0.011)
    assert found.validation == pytest.approx(job.measure(job.splits.validation)(model), abs=0.011)
    job.floor = Floor("accuracy", 0.999)
    assert ordered(job, rung, met=True) is rung  # an order that tips the floor is not taken


@pytest.mark.parametrize("why", ["no tries", "named", "large"])
def test_it_stays_as_it_was(tmp_path: Path, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    job = _job(tmp_path, order_tries=0 if why == "no tries" else 50)
    if why == "named":
        job.settings = replace(job.settings, profile="named")
    if why == "large":
        monkeypatch.setattr(ordering, "LARGEST_SYMBOLS", 100)
    rung = Rung(None, _contents(job.build()), 1_000_000, 0.0, 0.0)
    assert ordered(job, rung, met=True) is rung


def test_a_run_writes_the_better_order(tmp_path: Path) -> None:
    made = replace(recipe(), build=Wider)
    used = settings()
    sizes, errors = [], []
    for tries in (0, 40):
        each = replace(used, quantize=replace(used.quantize, order_tries=tries))
        result = compress_recipe(made, each, tmp_path / str(tries), floor="accuracy>=0.6")
        sizes.append(result["file_bytes"])
        errors.append(result["test_error_percent"])
        assert abs(result["predicted_bytes"] - result["file_bytes"]) <= 1
    assert sizes[1] < sizes[0]
    assert errors[1] == pytest.approx(errors[0], abs=0.4)  # one image of 300


def test_what_the_order_gains_counts_for_the_budget(tmp_path: Path) -> None:
    """Whether a goal is met is asked of the file that is written, after its units have been put in order."""
    job = _job(tmp_path, order_tries=30)
    contents = _contents(job.build())
    rung = Rung(None, contents, codec.size_estimate(contents).total, 0.0, 0.0)
    before = write_file(job, rung.contents).stat().st_size
    path = write_file(job, ordered(job, rung, met=False).contents)
    assert path.stat().st_size < before
    for budget, kept in ((before - 1, True), (path.stat().st_size - 1, False)):
        job.budget = budget
        assert holds(job, rung, path) is kept
    job.budget = None
    for value, kept in ((0.0, True), (0.5, False)):
        job.floor = Floor("accuracy", value)
        assert holds(job, rung, path) is kept
