"""Layers that only training uses: what they read stays whole, and nobody else pays for them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from epigram.structure import analyse, remove_units, slice_plan, training

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Auxiliary(nn.Module):
    """A second classifier, as GoogLeNet has; it takes maps of a size of its own, or not."""

    def __init__(self, pooled: int) -> None:
        super().__init__()
        self.pooled = pooled
        self.reduce, self.norm, self.classify = (
            nn.Conv2d(6, 4, 1),
            nn.BatchNorm2d(4),
            nn.Linear(4, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.reduce(F.avg_pool2d(x, self.pooled)))
        return self.classify(x.mean((2, 3)))


class Network(nn.Module):
    def __init__(self, pooled: int = 2, *, targets: bool = False) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3), nn.Linear(8, 5)
        self.aux, self.targets, self.spare = Auxiliary(pooled), targets, nn.Linear(3, 3)

    def forward(self, x: Tensor, targets: Tensor | None = None) -> tuple[Tensor, ...]:
        if self.training and self.targets and targets is None:
            raise ValueError("targets, please")
        first = F.relu(self.one(x))
        y = self.three(F.relu(self.two(first)).mean((2, 3)))
        return (y, self.aux(first)) if self.training else (y,)


@pytest.mark.parametrize("pooled", [2, 10])
def test_what_an_auxiliary_head_reads_stays_whole(pooled: int) -> None:
    model = Network(pooled).eval()
    before = copy.deepcopy(model.state_dict())
    structure = analyse(model, IMAGES)
    assert [g.name for g in structure.groups] == ["two"]
    (left,) = structure.left_whole
    assert (left.where, left.operation) == ("one", "forward")
    assert left.reason == "layers that are used in training only read it: aux"
    small = remove_units(model, slice_plan(structure, {"two": np.arange(8) > 2})).train()
    assert [tuple(y.shape) for y in small(torch.randn(2, 3, 32, 32))] == [(2, 5), (2, 5)]
    assert not model.training and not model.aux.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_network_that_does_not_train_by_itself_is_judged_in_eval_mode() -> None:
    assert [g.name for g in analyse(Network(targets=True), IMAGES).groups] == ["one", "two"]


def test_networks_whose_layers_are_all_used_pay_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "hollow", None)  # calling it would fail
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(64, 2))
    assert [g.name for g in analyse(model, IMAGES).groups] == ["0", "1"]
