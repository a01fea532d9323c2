"""Channels last in memory: other addresses, the same numbers, through cuts and a resume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from epigram.convert import bayesianize
from epigram.data import TensorSet
from epigram.train import (
    BayesianLearner,
    EpochEnd,
    PlainLearner,
    Schedule,
    TrainSettings,
    fit,
    read_metrics,
)
from epigram.train.optimizers import build_optimizer, match_layout_

KEEP = np.array([True, False, True, True, False, True, True, True])


def network() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 4, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )
    return net.double()


def images() -> TensorSet:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(64, 3, 6, 6, generator=generator, dtype=torch.float64)
    return TensorSet(x, x.mean(dim=(2, 3)).argmax(1), "synthetic")


def settings(*, channels_last: bool, optimizer: str = "adam") -> TrainSettings:
    return TrainSettings(
        epochs=3,
        batch_size=16,
        optimizer=optimizer,
        learning_rate=0.01,
        channels_last=channels_last,
        checkpoint_every_seconds=None,
        tensorboard=False,
    )


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_a_plain_network_learns_the_same(tmp_path: Path, optimizer: str) -> None:
    ended = []
    for channels_last in (False, True):
        net = network()
        fit(
            PlainLearner(net),
            images(),
            settings(channels_last=channels_last, optimizer=optimizer),
            folder=tmp_path / str(channels_last),
            stage="s",
            seed=0,
            progress=None,
        )
        assert all(p.is_contiguous() for p in net.parameters())
        ended.append(net.state_dict())
    for name, tensor in ended[0].items():
        torch.testing.assert_close(tensor, ended[1][name], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_units_leave_and_a_stopped_run_goes_on_to_the_bit(tmp_path: Path, optimizer: str) -> None:
    """Twin, moments, running statistics and shapes all come back, in either layout."""

    def run(folder: Path, *, stop_after: int = 10_000) -> nn.Module:
        twin = bayesianize(network(), torch.randn(2, 3, 6, 6, dtype=torch.float64))
        steps = iter(range(20_000))
        memory: list[tuple[bool, bool]] = []

        def on_epoch(end: EpochEnd) -> None:
            if end.epoch == 1:
                learner.shrink_({"0": KEEP}, optimizer=end.optimizer)

        def stop() -> bool:
            weight = twin.get_parameter("network.3.weight_mean")
            memory.append(
                (weight.is_contiguous(memory_format=torch.channels_last), weight.is_contiguous())
            )
            return next(steps) == stop_after

        learner = BayesianLearner(twin, 64, on_epoch=on_epoch)
        fit(
            learner,
            images(),
            settings(channels_last=True, optimizer=optimizer),
            folder=folder,
            stage="s",
            seed=0,
            progress=None,
            stop=stop,
        )
        assert set(memory) == {(True, False)}
        return twin

    whole = run(tmp_path / "whole")
    run(tmp_path / "parts", stop_after=6)  # within the second epoch, after the cut
    parts = run(tmp_path / "parts")
    assert whole.units_kept()["0"] == (6, 8)
    assert whole.get_buffer("network.1.running_var").shape == (6,)
    plan = Schedule(settings(channels_last=True), 4)
    for folder in (
        tmp_path / "whole",
        tmp_path / "parts",
    ):  # the schedule goes on as if nothing had left
        lines = read_metrics(folder / "metrics.jsonl", stage="s")
        assert [line["learning_rate"] for line in lines] == [
            plan.learning_rate(4 * epoch - 1) for epoch in (1, 2, 3)
        ]
    for (name, one), other in zip(
        whole.state_dict().items(), parts.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name


def test_moments_follow_their_parameter_s_layout() -> None:
    """Moments from a checkpoint of another layout would be walked by address in the wrong order."""
    parameter = nn.Parameter(torch.randn(4, 3, 3, 3))
    optimizer = build_optimizer([{"params": [parameter], "role": "mean"}], TrainSettings())
    parameter.grad = torch.randn(4, 3, 3, 3)
    optimizer.step()
    before = optimizer.state[parameter]["exp_avg"].clone()
    parameter.data = parameter.data.to(memory_format=torch.channels_last)
    match_layout_(optimizer)
    after = optimizer.state[parameter]["exp_avg"]
    assert after.stride() == parameter.stride() != before.stride()
    assert torch.equal(after, before)
