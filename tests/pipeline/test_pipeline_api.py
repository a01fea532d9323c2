"""``epigram.compress`` for a model of one's own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.pipeline.tiny_recipe import TinyNet, bits_settings, examples, settings
from torch import Tensor

import epigram
from epigram.errors import ConfigError, DataError, UnsupportedModelError
from epigram.evaluate import evaluate

pytestmark = pytest.mark.usefixtures("no_report")


@pytest.fixture(scope="module")
def trained() -> TinyNet:
    torch.manual_seed(0)
    net, data = TinyNet(), examples(800, seed=1, name="train")
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(data.inputs), data.targets).backward()
        optimizer.step()
    return net


def no_plain_epochs() -> epigram.CompressSettings:
    made = settings()
    return settings(plain=type(made.plain)(epochs=0))


def test_compress_gives_back_a_small_model_of_the_users_class(
    trained: TinyNet, tmp_path: Path
) -> None:
    before = {k: v.clone() for k, v in trained.state_dict().items()}
    train, test = examples(800, seed=1, name="train"), examples(300, seed=4, name="test")
    result = epigram.compress(
        trained, (train.inputs, train.targets), floor="accuracy>=0.8", test_data=(test.inputs, test.targets),
        out=tmp_path / "deep" / "model.epg", settings=no_plain_epochs(), progress=None,
    )  # fmt: skip
    assert result.met
    assert type(result.model) is TinyNet
    assert not result.model.training
    assert result.path == tmp_path / "deep" / "model.epg"
    assert result.path.stat().st_size == result.figures["file_bytes"]
    assert list(tmp_path.iterdir()) == [tmp_path / "deep"]  # nothing else is left
    assert evaluate(result.model, test).error_percent == result.figures["test_error_percent"]
    again = epigram.load(result.path, into=TinyNet())
    assert torch.equal(again(test.inputs), result.model(test.inputs))
    assert all(torch.equal(v, before[k]) for k, v in trained.state_dict().items())
    assert sum(p.numel() for p in again.parameters()) < sum(p.numel() for p in trained.parameters())


class Versioned(TinyNet):
    """A model with state that is no tensor."""

    version = 1

    def get_extra_state(self) -> dict[str, int]:
        return {"version": self.version}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.version = state["version"]


def test_state_that_is_no_tensor_is_left_out_and_named(trained: TinyNet, tmp_path: Path) -> None:
    model, train = Versioned(), examples(800, seed=1, name="train")
    model.load_state_dict(trained.state_dict(), strict=False)
    result = epigram.compress(
        model, train, floor="accuracy>=0.8", folder=tmp_path / "run", settings=no_plain_epochs(),
        progress=None,
    )  # fmt: skip
    assert result.met
    assert result.figures["left_out"] == ["_extra_state"]
    blank = Versioned()
    blank.version = 2
    back = epigram.load(result.path, into=blank)
    assert isinstance(back, Versioned)
    assert back.version == 2
    assert torch.equal(back(train.inputs), result.model(train.inputs))


class Choosing(TinyNet):
    """Three layers in the root, and a choice by values that no export can follow."""

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        if x.sum() > 0:
            return x
        return x + 0.0 * x.sum()


def test_a_model_that_cannot_be_exported_is_coded_whole_on_request(
    trained: TinyNet, tmp_path: Path
) -> None:
    model = Choosing()
    model.load_state_dict(trained.state_dict())
    train = examples(800, seed=1, name="train")
    told = {"floor": "accuracy>=0.8", "settings": no_plain_epochs(), "progress": None}
    with pytest.raises(UnsupportedModelError, match=r"`if x.sum\(\) > 0:`.*on_failure='leave'"):
        epigram.compress(model, train, folder=tmp_path / "refused", **told)
    result = epigram.compress(model, train, folder=tmp_path / "run", on_failure="leave", **told)
    assert result.met and type(result.model) is Choosing
    assert result.path.stat().st_size < 0.5 * result.figures["dense_bytes"]
    assert result.figures["units"] == {}
    assert "x.sum() > 0" in result.figures["left_whole"][0]
    shapes = {name: t.shape for name, t in model.state_dict().items()}
    assert {name: t.shape for name, t in result.model.state_dict().items()} == shapes


class Careless(TinyNet):
    """Changes its input in place, keeps a table from its first call on and its last activation."""

    table: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.table is None:
            self.table = torch.full((6,), -1.0)
        self.features = x.neg_() * self.table
        return super().forward(self.features)


def test_a_model_that_changes_its_input_and_keeps_tensors(trained: TinyNet) -> None:
    model = Careless()
    model.load_state_dict(trained.state_dict())
    train, kept = examples(800, seed=1, name="train"), set(vars(model))
    result = epigram.compress(
        model, train, floor="accuracy>=0.8", settings=replace(no_plain_epochs(), teacher_share=0.5), progress=None
    )  # fmt: skip
    assert result.met and type(result.model) is Careless
    assert torch.equal(train.inputs, examples(800, seed=1, name="train").inputs)
    assert set(vars(model)) == kept
    assert result.figures["left_whole"] == []
    assert any(
        p.shape != q.shape
        for p, q in zip(result.model.parameters(), model.parameters(), strict=True)
    )


def test_a_bits_pass_needs_no_export(trained: TinyNet) -> None:
    model = Choosing()
    model.load_state_dict(trained.state_dict())
    made = bits_settings(structure_epochs=0)
    made = replace(made, plain=replace(made.plain, epochs=0))
    train = examples(800, seed=1, name="train")
    result = epigram.compress(model, train, floor="accuracy>=0.8", settings=made, progress=None)
    assert result.figures["file_bytes"] < 0.5 * result.figures["dense_bytes"]


def worst_class(logits: Tensor, targets: Tensor) -> float:
    """The recall of the class that fares worst."""
    right = logits.argmax(1) == targets
    return min(float(right[targets == k].float().mean()) for k in range(3))


def test_a_floor_on_a_metric_of_ones_own(trained: TinyNet, tmp_path: Path) -> None:
    result = epigram.compress(
        trained, examples(800, seed=1, name="train"), floor="worst_class>=0.7", folder=tmp_path / "run",
        metrics={"worst_class": worst_class}, settings=no_plain_epochs(), progress=None,
    )  # fmt: skip
    floor = result.figures["floor"]
    assert floor["metric"] == "worst_class"
    assert floor["met"]
    assert floor["validation_value"] >= 0.7
    assert result.path == tmp_path / "run" / "model.epg"
    assert "test_error_percent" not in result.figures  # there is no test set
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert "worst_class" in json.loads(lines[0])["control"]


def test_a_floor_on_nll_is_a_ceiling(trained: TinyNet) -> None:
    result = epigram.compress(
        trained, examples(800, seed=1, name="train"), floor="nll<=0.6", settings=no_plain_epochs(), progress=None
    )  # fmt: skip
    assert result.met
    assert result.figures["floor"]["validation_value"] <= 0.6
    assert result.path is None


def test_a_class_that_never_occurs_does_not_end_the_run(trained: TinyNet, tmp_path: Path) -> None:
    """Its accuracy is 0 / 0; the figure is null, and everything else is there."""
    test = examples(90, seed=4, name="test")
    result = epigram.compress(
        trained, examples(800, seed=1, name="train"), floor="accuracy>=0.7", folder=tmp_path / "run",
        test_data=test.subset(np.flatnonzero(test.targets.numpy() != 1)), settings=no_plain_epochs(), progress=None,
    )  # fmt: skip
    assert result.figures["class_accuracy_change_percent"][1] is None


def test_data_that_do_not_fit_are_refused(trained: TinyNet, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="TinyNet does not take inputs"):
        epigram.compress(
            trained, (torch.ones(40, 1, 7, 7), torch.zeros(40, dtype=torch.long)), floor="accuracy>=0.5",
            folder=tmp_path / "run", progress=None,
        )  # fmt: skip
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="floor"):
        epigram.compress(trained, examples(40, seed=1, name="train"), floor="good", progress=None)
