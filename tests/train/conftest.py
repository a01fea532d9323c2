"""A small twin with the interface the learner uses, and small data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from epigram.data import TensorSet


class FakeTwin(nn.Module):
    """6 inputs, 8 noisy hidden units with a scale each, 3 classes: the smallest thing that shrinks."""

    def __init__(self, units: int = 8) -> None:
        super().__init__()
        self.first = nn.Linear(6, units)
        self.second = nn.Linear(units, 3)
        self.log_scale = nn.Parameter(0.1 * torch.randn(units))
        self.weight_logvar = nn.Parameter(torch.full((3, units), -4.0))
        self.register_buffer("kept", torch.ones(units, dtype=torch.bool), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.first(x)) * self.log_scale.exp()
        if self.training:
            hidden = hidden + 0.1 * torch.randn_like(hidden)
        return self.second(hidden)

    def kl_nats(self) -> Tensor:
        variance = self.weight_logvar.exp()
        mean = self.second.weight
        kl = 0.5 * (variance + mean.square() - self.weight_logvar - 1).sum()
        return kl + 0.5 * self.log_scale.square().sum()

    def clamp_(self) -> None:
        with torch.no_grad():
            self.weight_logvar.clamp_(-10.0, 2.0)

    def removability(self) -> dict[str, np.ndarray]:
        return {"first": -self.log_scale.detach().cpu().numpy()}

    def units_kept(self) -> dict[str, tuple[int, int]]:
        return {"first": (int(self.kept.sum()), len(self.kept))}

    def effective_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters())

    def kept_masks(self) -> dict[str, np.ndarray]:
        return {"first": self.kept.cpu().numpy().copy()}

    def named_roles(self) -> dict[str, str]:
        return {
            "first.weight": "mean",
            "first.bias": "mean",
            "second.weight": "mean",
            "second.bias": "mean",
            "log_scale": "scale",
            "weight_logvar": "logvar",
        }

    def shrink_(self, keep: Mapping[str, np.ndarray]) -> list[SimpleNamespace]:
        index = torch.as_tensor(np.flatnonzero(keep["first"]))
        self.kept[self.kept.clone()] = torch.as_tensor(keep["first"])
        cuts = []
        for parameter, axis in (
            (self.first.weight, 0),
            (self.first.bias, 0),
            (self.second.weight, 1),
            (self.log_scale, 0),
            (self.weight_logvar, 1),
        ):
            parameter.data = parameter.data.index_select(axis, index)
            cuts.append(SimpleNamespace(parameter=parameter, axis=axis, index=index))
        return cuts


@pytest.fixture
def make_twin() -> Callable[[], FakeTwin]:
    def make(seed: int = 0) -> FakeTwin:
        torch.manual_seed(seed)
        return FakeTwin()

    return make


@pytest.fixture
def make_net() -> Callable[[], nn.Module]:
    def make(seed: int = 0) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 3))

    return make


def _examples(n: int, seed: int) -> TensorSet:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 6, generator=generator)
    y = F.one_hot(x[:, :3].argmax(1), 3).argmax(1)
    return TensorSet(x, y, "synthetic")


@pytest.fixture
def fit_set() -> TensorSet:
    return _examples(200, 1)


@pytest.fixture
def control_set() -> TensorSet:
    return _examples(60, 2)


@pytest.fixture
def same_tensors() -> Callable[[nn.Module, nn.Module], Any]:
    """Asserts that two modules' states are equal to the bit."""

    def check(a: nn.Module, b: nn.Module) -> None:
        first, second = a.state_dict(), b.state_dict()
        assert first.keys() == second.keys()
        for name, tensor in first.items():
            assert torch.equal(tensor, second[name]), name

    return check
