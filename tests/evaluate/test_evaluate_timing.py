"""Latency: interleaved, per pass, and nothing left behind."""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor, nn

from epigram.errors import ConfigError
from epigram.evaluate import latency, macs, predictions


class Recorder(nn.Module):
    """Notes every call, and takes a known time at the least."""

    def __init__(self, log: list[str], name: str, seconds: float) -> None:
        super().__init__()
        self.log, self.name, self.seconds = log, name, seconds

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        self.log.append(self.name)
        time.sleep(self.seconds)
        return x


def test_measures_in_turn_in_alternating_order() -> None:
    log: list[str] = []
    models = {name: Recorder(log, name, 0.002) for name in ("a", "b")}
    found = latency(models, torch.zeros(1), rounds=4, min_ms=1.0)
    assert "".join(log[8:]) == "abbaabba"  # after warm-up and estimate, one call a turn
    assert list(found) == ["a", "b"]
    assert all(value >= 2.0 for value in found.values())
    assert all(model.training for model in models.values())


def test_the_examples_stay_as_they_are() -> None:
    """A forward pass may change its input in place; every pass of an evaluation is about the same data."""

    class Negating(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.neg_()

    x = torch.arange(6.0).reshape(3, 2)
    latency({"a": Negating()}, x, rounds=1)
    assert macs(Negating(), x) == 0
    found = [predictions(Negating(), x, batch_size=2) for _ in range(2)]
    assert torch.equal(x, torch.arange(6.0).reshape(3, 2))
    assert all(torch.equal(outputs, -x) for outputs in found)


def test_a_turn_repeats_quick_passes_and_reports_one() -> None:
    log: list[str] = []
    model = Recorder(log, "a", 0.001)
    found = latency({"a": model}, torch.zeros(1), rounds=2, min_ms=20.0)
    assert len(log) >= 4 + 2 * 2  # on an unhurried machine 4 + 2 * 20
    assert found["a"] >= 1.0


def test_the_slower_one_is_slower() -> None:
    log: list[str] = []
    models = {"quick": nn.Identity(), "slow": Recorder(log, "slow", 0.003)}
    found = latency(models, torch.zeros(1), rounds=5)
    assert found["quick"] < found["slow"]


def test_several_arguments_and_refusal() -> None:
    assert latency({"a": nn.Bilinear(2, 2, 1)}, (torch.zeros(1, 2), torch.zeros(1, 2)), rounds=1)
    with pytest.raises(ConfigError, match="rounds: got 0"):
        latency({"a": nn.Identity()}, torch.zeros(1), rounds=0)
