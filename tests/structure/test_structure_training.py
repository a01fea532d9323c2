"""What only training does: units it cannot do without stay, and nobody else pays for it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from epigram.convert import bayesianize
from epigram.records import BoolArray
from epigram.structure import (
    SizedStructure,
    analyse,
    mask_units,
    remove_units,
    slice_plan,
    training,
)

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
X = torch.randn(4, 5, generator=torch.Generator().manual_seed(2))


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


class Two(nn.Module):
    """Two layers of units, ``a`` and ``b``; what training does with those of ``b`` is to be written."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(8, 7), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> object:
        z = F.relu(self.b(F.dropout(F.relu(self.a(x)), 0.5, self.training)))
        return self.in_training(z) if self.training else self.c(z)

    def in_training(self, z: Tensor) -> object:
        raise NotImplementedError


class Centres(Two):
    def __init__(self) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(3, 7))

    def in_training(self, z: Tensor) -> object:
        return self.c(z), torch.cdist(z, self.centres)


class Assigned(Two):
    """A running mean that is made anew each time."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(7))

    def in_training(self, z: Tensor) -> object:
        self.mean = 0.9 * self.mean + 0.1 * z.detach().mean(0)
        return self.c(z)


class Updated(Assigned):
    """One that is changed in place."""

    def in_training(self, z: Tensor) -> object:
        self.mean.mul_(0.9).add_(0.1 * z.detach().mean(0))
        return self.c(z + torch.randn_like(z))


class Mixed(Assigned):
    """One whose entries depend on all units."""

    def in_training(self, z: Tensor) -> object:
        self.mean = z.detach().softmax(1).mean(0)
        return self.c(z)


class Features(Two):
    def in_training(self, z: Tensor) -> object:
        return {"logits": self.c(z), "features": z}


class Flipped(Two):
    def in_training(self, z: Tensor) -> object:
        return self.c(z + z.flip(1))


class Stochastic(Two):
    """A branch that is left out by chance, example by example."""

    def in_training(self, z: Tensor) -> object:
        return self.c(z * z.new_empty(z.shape[0], 1).bernoulli_(0.8).div_(0.8))


class Chosen(Two):
    """A branch that depends on the width, left out by chance."""

    def in_training(self, z: Tensor) -> object:
        chosen = (torch.rand(z.shape[0], 1) < 0.5).to(z.dtype)
        return self.c(z) + chosen * self.c(z / z.shape[1] ** 0.5)


class Literal(Two):
    """A width that is written down."""

    def in_training(self, z: Tensor) -> object:
        return self.c(z * z.new_ones(7))


class Softmax(Two):
    def in_training(self, z: Tensor) -> object:
        return self.c(z), z.softmax(1).square().sum()


class Untraceable(Two):
    """What it does by chance cannot be followed, so only trials tell."""

    def in_training(self, z: Tensor) -> object:
        return self.c(z.cumsum(1) if torch.rand(()) < 0.99 else z)


class Single(Two):
    """What it adds is of single precision, whatever the network is."""

    def in_training(self, z: Tensor) -> object:
        return self.c(z) + F.linear(z, torch.ones(3, z.shape[1]))


class Fragile(Two):
    """It does not take the weights of a trial."""

    def __init__(self) -> None:
        super().__init__()
        nn.init.ones_(self.c.bias)

    def in_training(self, z: Tensor) -> object:
        if float(self.c.bias.detach().sum()) != 3.0:
            raise ValueError("the bias is not what it was")
        return self.c(z * 2)


def keep_of(structure: SizedStructure) -> dict[str, BoolArray]:
    return {g.name: np.arange(g.units) % 3 != 1 for g in structure.groups if g.units > 1}


def in_train(model: nn.Module, x: Tensor) -> list[Tensor]:
    """What it puts out and keeps in buffers, without dropout and noise."""
    model = copy.deepcopy(model).train()
    with training.WithoutChance():
        found = model(x)
    found = found.values() if isinstance(found, dict) else found
    outputs = list(found) if not isinstance(found, Tensor) else [found]
    return [*outputs, *model.buffers()]


def test_an_auxiliary_head_is_followed() -> None:
    model = Network().eval()
    before = copy.deepcopy(model.state_dict())
    structure = analyse(model, IMAGES)
    assert [g.name for g in structure.groups] == ["one", "two", "aux.reduce"]
    keep = keep_of(structure)
    small, masked = (
        remove_units(model, slice_plan(structure, keep)),
        mask_units(model, structure, keep),
    )
    for ours, theirs in zip(in_train(small, IMAGES)[:2], in_train(masked, IMAGES)[:2], strict=True):
        torch.testing.assert_close(ours, theirs)
    assert not model.training and not model.aux.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_an_auxiliary_head_may_want_larger_maps() -> None:
    structure = analyse(Network(10), IMAGES)
    assert [g.name for g in structure.groups] == ["one", "two", "aux.reduce"]


@pytest.mark.parametrize(
    ("build", "names", "reason"),
    [
        (Centres, ["a"], "not known to keep units apart, in train()"),
        (Assigned, ["a", "b"], ""),
        (Updated, ["a", "b"], ""),
        (Mixed, ["a"], "mixes the units along axis 1, in train()"),
        (Features, ["a"], "an output that the network has in train() only"),
        (Flipped, ["a", "b", "b:2"], ""),
        (Stochastic, ["a", "b"], ""),
        (Chosen, ["a"], "in train() the smaller network does not work"),
        (Literal, ["a"], "with a tensor that keeps its size, in train()"),
        (Softmax, ["a"], "mixes the units along axis 1, in train()"),
        (Untraceable, ["a"], "in train() the smaller network does not work"),
        (Single, ["a"], "its weight is computed in forward, not a tensor of the model, in train()"),
        (Fragile, [], "the bias is not what it was"),
    ],
)
def test_what_training_does_with_units(build: type[Two], names: list[str], reason: str) -> None:
    torch.manual_seed(0)
    model = build()
    structure = analyse(model, X)
    assert [g.name for g in structure.groups] == names
    assert reason in "".join(left.reason for left in structure.left_whole)
    assert bool(reason) == bool(structure.left_whole)
    keep = keep_of(structure)
    plan = slice_plan(structure, keep)
    small, masked = remove_units(model, plan), mask_units(model, structure, keep)
    torch.testing.assert_close(small.eval()(X), masked.eval()(X))
    ours, theirs = in_train(small, X), in_train(masked, X)
    if "mean" in plan:
        theirs[-1] = theirs[-1][torch.from_numpy(plan["mean"][0])]
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)


def test_a_twin_shrinks_with_its_running_mean_and_trains_on() -> None:
    torch.manual_seed(0)
    twin = bayesianize(Updated(), X).train()
    twin(X)
    twin.shrink_({"b": np.arange(7) < 4})
    twin(X)
    mean = twin.plain().get_buffer("mean")
    assert mean.shape == (4,)
    assert bool(mean.any())


def test_a_network_that_does_not_train_by_itself_is_judged_in_eval_mode() -> None:
    assert [g.name for g in analyse(Network(targets=True), IMAGES).groups] == ["one", "two"]


def test_networks_that_do_the_same_in_both_modes_pay_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training, "trace", None)  # calling these would fail
    monkeypatch.setattr(training, "for_trials", None)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Dropout(), nn.Flatten(), nn.Linear(216, 2)
    )
    assert [g.name for g in analyse(model, IMAGES).groups] == ["0"]
