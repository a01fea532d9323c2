"""The first NaN is found at its step, named, kept, and comes again in a replay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from epigram.errors import FormatError, NonFiniteError
from epigram.train import (
    BayesianLearner,
    PlainLearner,
    TrainSettings,
    fit,
    read_metrics,
    replay,
)

SETTINGS = TrainSettings(epochs=3, batch_size=16, tensorboard=False, guard_every_steps=6)
BAD_STEP = 22  # counted from 1: in the second epoch of 13 steps, not where the guard looks


class Counting(nn.Module):
    """Passes on its input, and counts training steps in a buffer, so that a replay counts alike."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.steps += 1
        return self.inner(x)


class LogOfNegative(Counting):
    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        return torch.log(-x.abs()) if self.steps == BAD_STEP else x


class RootAtZero(Counting):
    """Finite output, infinite derivative."""

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        return x + torch.sqrt(x * 0.0) if self.steps == BAD_STEP else x


class HugeWeight(Counting):
    """Finite gradients; a step this large leaves the range of fp32."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        bad = float(self.steps == BAD_STEP)
        return x + bad * self.gain * 1e30


def _net(first: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(first(), nn.Dropout(0.2), nn.ReLU(), nn.Linear(6, 3))


def _fail(net: nn.Module, fit_set, folder: Path, settings: TrainSettings = SETTINGS, **more):
    with pytest.raises(NonFiniteError) as caught:
        fit(
            PlainLearner(net, **more),
            fit_set,
            settings,
            folder=folder,
            stage="plain",
            seed=4,
            progress=None,
        )
    return caught.value


@pytest.mark.parametrize(
    ("module", "kind", "name"),
    [
        (LogOfNegative, "module output", "0"),
        (RootAtZero, "gradient", "0.inner.weight"),
    ],
)
def test_the_first_bad_tensor_is_named_and_replayed(
    tmp_path: Path, fit_set, module: type[nn.Module], kind: str, name: str
) -> None:
    error = _fail(_net(module), fit_set, tmp_path)
    assert error.exit_code == 4
    assert error.bundle == tmp_path / "failure-0001"
    assert f"epoch 2, step {BAD_STEP}" in str(error)

    report = replay(error.bundle, lambda about: PlainLearner(_net(module)))
    assert report.reproduced, str(report)
    assert (report.stage, report.epoch, report.step) == ("plain", 2, BAD_STEP)
    assert report.found.kind in (kind, f"{kind} of module output")
    assert report.found.name in (name, "0.inner")
    assert report.found.nan + report.found.inf > 0
    assert str(report.found) in str(error)


def test_a_replay_of_a_mended_network_finds_nothing(tmp_path: Path, fit_set) -> None:
    error = _fail(_net(LogOfNegative), fit_set, tmp_path)
    report = replay(error.bundle, lambda about: PlainLearner(_net(Counting)))
    assert report.found is None
    assert not report.reproduced
    assert "everything was finite this time" in str(report)


def test_the_loss_is_named_where_only_it_is_bad(tmp_path: Path, fit_set) -> None:
    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.sum() * 0.0).log().abs()

    error = _fail(_net(Counting), fit_set, tmp_path, loss_fn=loss_fn)
    assert "loss 'nll'" in str(error)
    assert "step 1:" in str(error)


def test_a_parameter_that_leaves_the_range_is_named(tmp_path: Path, fit_set) -> None:
    settings = TrainSettings(
        epochs=2,
        batch_size=16,
        optimizer="sgd",
        learning_rate=1e30,
        schedule="constant",
        tensorboard=False,
    )

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        return 1e10 * outputs.mean()

    error = _fail(_net(Counting), fit_set, tmp_path, settings, loss_fn=loss_fn)
    assert "parameter after the step" in str(error)


def test_a_bad_kl_is_named(tmp_path: Path, make_twin, fit_set) -> None:
    twin = make_twin()
    with torch.no_grad():
        twin.log_scale[3] = 1e20  # its square leaves the range of fp32; exp of its negative is 0
        twin.log_scale.neg_()
    learner = BayesianLearner(twin, len(fit_set))
    with pytest.raises(NonFiniteError, match="step 1: not finite: loss 'kl_nats'"):
        fit(learner, fit_set, SETTINGS, folder=tmp_path, stage="structure", seed=4, progress=None)


def test_what_was_good_is_kept(tmp_path: Path, fit_set) -> None:
    _fail(_net(LogOfNegative), fit_set, tmp_path)
    error = _fail(_net(LogOfNegative), fit_set, tmp_path)  # goes on from the first epoch
    assert error.bundle.name == "failure-0002"
    assert [r["epoch"] for r in read_metrics(tmp_path / "metrics.jsonl")] == [1]
    state = torch.load(tmp_path / "checkpoints" / "plain.pt", weights_only=True)
    assert all(torch.isfinite(t).all() for t in state["state"]["module"].values())


def test_looking_often_or_seldom_finds_the_same(tmp_path: Path, fit_set) -> None:
    messages = set()
    for every in (1, 4, 1000):
        settings = TrainSettings(
            epochs=3, batch_size=16, tensorboard=False, guard_every_steps=every
        )
        error = _fail(_net(LogOfNegative), fit_set, tmp_path / str(every), settings)
        messages.add(str(error).split(". The step")[0])
    assert len(messages) == 1


def test_the_guard_changes_nothing_and_can_be_switched_off(
    tmp_path: Path, make_net, fit_set, same_tensors
) -> None:
    nets = []
    for every in (0, 3):
        net = make_net()
        settings = TrainSettings(
            epochs=2, batch_size=16, tensorboard=False, guard_every_steps=every
        )
        fit(
            PlainLearner(net),
            fit_set,
            settings,
            folder=tmp_path / str(every),
            stage="plain",
            seed=4,
            progress=None,
        )
        nets.append(net)
    same_tensors(*nets)
    off = TrainSettings(epochs=2, batch_size=16, tensorboard=False, guard_every_steps=0)
    fit(
        PlainLearner(_net(LogOfNegative)),
        fit_set,
        off,
        folder=tmp_path / "off",
        stage="plain",
        seed=4,
        progress=None,
    )
    assert (
        json.loads((tmp_path / "off" / "metrics.jsonl").read_text().splitlines()[1])["train"][
            "loss"
        ]
        is None
    )


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path, fit_set) -> None:
    def build(about) -> PlainLearner:
        return PlainLearner(_net(Counting))

    with pytest.raises(FormatError, match="failure bundle"):
        replay(tmp_path, build)
    error = _fail(_net(LogOfNegative), fit_set, tmp_path)
    data = (error.bundle / "state.pt").read_bytes()
    (error.bundle / "state.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(FormatError, match="damaged"):
        replay(error.bundle, build)
