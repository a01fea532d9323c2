"""The user's network and example are exactly as they were, and networks that keep tensors are followed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from epigram.errors import UnsupportedModelError
from epigram.structure import analyse, mask_units, remove_units, slice_plan, verify_removal
from epigram.structure.copying import copied

X = torch.randn(2, 6, generator=torch.Generator().manual_seed(3))


class Layers(nn.Module):
    """Two hidden layers; what goes on with the input and between them is another question."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Linear(6, 16), nn.Linear(16, 12), nn.Linear(12, 3)

    def last(self, h: Tensor) -> Tensor:
        y: Tensor = self.c(F.relu(self.b(h)))
        return y


class Activation(Layers):
    def forward(self, x: Tensor) -> Tensor:
        self.features = F.relu(self.a(x))
        return self.last(self.features)


class Activations(Layers):
    def __init__(self) -> None:
        super().__init__()
        self.features: list[dict[str, Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.a(x))
        self.features.append({"h": h})
        return self.last(h)


class Record(Layers):
    """Its last activation is in an object of its own, as the outputs of some libraries are."""

    def forward(self, x: Tensor) -> Tensor:
        self.output = SimpleNamespace(hidden={"a": F.relu(self.a(x))})
        return self.last(self.output.hidden["a"])


class Table(Layers):
    table: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.table is None:
            self.table = torch.linspace(1, 2, 6, dtype=x.dtype)
        return self.last(F.relu(self.a(x * self.table)))


class TableOfNumPy(Layers):
    """No export can follow how the table is made, but once it is there."""

    table: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.table is None:
            self.table = torch.from_numpy(x.detach().abs().amax(0).numpy() + 1).to(x.dtype)
        return self.last(F.relu(self.a(x * self.table)))


class Tables(Layers):
    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[int, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        table = self.tables.setdefault(x.shape[1], torch.linspace(1, 2, x.shape[1]))
        return self.last(F.relu(self.a(x * table.to(x.dtype))))


class Buffer(Layers):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.table is None:
            self.table = torch.linspace(1, 2, 6, dtype=x.dtype)
        return self.last(F.relu(self.a(x * self.table)))


class Counting(Layers):
    """Buffers and numbers that change in every call, in ``eval()`` too."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        self.calls += 1
        return self.last(F.relu(self.a(x)))


class InPlace(Layers):
    def forward(self, x: Tensor) -> Tensor:
        x.sub_(0.5).div_(0.25)
        return self.last(F.relu(self.a(x)))


class Inside(nn.Module):
    """A network that keeps something, within another."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Activation()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x)
        return y


class InAPart(nn.Module):
    """The whole cannot be exported, its part can."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Activation()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x)
        return y if y.sum() > 0 else -y


KEEPING = [
    *(Activation, Activations, Record, Table, TableOfNumPy, Tables),
    *(Buffer, Counting, InPlace, Inside, InAPart),
]


def inside(model: nn.Module) -> list[tuple[str, str, Any, Any]]:
    """Everything that the modules hold: where, under which name, itself and its value."""
    return [
        (path, name, leaf, leaf.detach().clone() if isinstance(leaf, torch.Tensor) else leaf)
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        for leaf in pytree.tree_leaves(value)
    ]


def assert_unchanged(model: nn.Module, before: list[tuple[str, str, Any, Any]]) -> None:
    after = inside(model)
    assert [entry[:2] for entry in after] == [entry[:2] for entry in before]
    for (path, name, mine, value), (*_, theirs, was) in zip(after, before, strict=True):
        assert mine is theirs, f"{path}.{name}"
        same = torch.equal(value, was) if isinstance(value, torch.Tensor) else value == was
        assert same, f"{path}.{name}"


@pytest.mark.parametrize("called", ["never", "with gradients", "without"])
@pytest.mark.parametrize("kind", KEEPING)
def test_a_network_that_keeps_tensors_is_followed_and_left_alone(
    kind: Callable[[], nn.Module], called: str
) -> None:
    model = kind().eval()
    if called != "never":
        with torch.set_grad_enabled(called == "with gradients"):
            model(X.clone())
    before, example = inside(model), X.clone()
    structure = analyse(model, example)
    assert_unchanged(model, before)
    assert torch.equal(example, X)
    assert {g.name.rpartition(".")[2]: g.units for g in structure.groups} == {"a": 16, "b": 12}
    keep = {g.name: np.arange(g.units) % 3 > 0 for g in structure.groups}
    small, masked = (
        remove_units(model, slice_plan(structure, keep)),
        mask_units(model, structure, keep),
    )
    assert small.get_parameter(f"{'inner.' * (kind in (Inside, InAPart))}a.weight").shape == (10, 6)
    verify_removal(small, masked, example)
    assert_unchanged(model, before)
    assert torch.equal(example, X)


def test_copies_have_the_numbers_without_the_graph() -> None:
    model = Activations().eval()
    model(X).sum().backward()
    twin = copied(model)
    (mine,), (theirs,) = twin.features, model.features
    assert torch.equal(mine["h"], theirs["h"]) and mine["h"] is not theirs["h"]
    assert mine["h"].is_leaf and not theirs["h"].is_leaf
    assert all(p.grad is None for p in twin.parameters())
    assert all(p.grad is not None for p in model.parameters())


class Locked(Layers):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Identity()
        self.inner.lock = threading.Lock()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.a(x)))


def test_what_cannot_be_copied_is_named() -> None:
    with pytest.raises(UnsupportedModelError, match=r"; inner\.lock \(a lock\) is what cannot be"):
        analyse(Locked(), X)
    (entry,) = analyse(Locked(), X, on_failure="leave").left_whole
    assert "inner.lock" in entry.reason
