"""Modules that keep activations, with the graph that leads to them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from epigram.convert import bayesianize
from epigram.prune import budget
from epigram.structure import analyse, remove_units, slice_plan

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))


class Keeps(nn.Module):
    """The last activations: as an attribute, in a list, in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 16), nn.Linear(16, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.a(x))
        self.features, self.several = h, [h, h + 1]
        self.named = {"sum": (h.sum(),)}
        return self.c(F.relu(self.b(h)))


def test_a_twin_that_keeps_activations_gives_its_plain_network() -> None:
    torch.manual_seed(0)
    model = Keeps().eval()
    model(X)
    twin = bayesianize(model, X).train()
    twin(X).sum().backward()
    with pytest.raises(RuntimeError, match="deepcopy"):  # what is mended
        copy.deepcopy(twin.network)
    plain = twin.plain().eval()
    torch.testing.assert_close(plain(X), twin.eval()(X))
    twin.train()(X).sum().backward()
    assert (
        budget.unit_prices(twin, lambda plain: sum(p.numel() for p in plain.parameters()))["a"]
        == 19
    )
    twin.shrink_({"a": np.arange(16) < 9})
    assert twin.plain()(X).shape == (4, 3)


def test_units_leave_a_network_that_was_called_with_gradients() -> None:
    torch.manual_seed(0)
    model = Keeps().eval()
    model(X)
    features = model.features
    structure = analyse(model, X)
    assert [g.name for g in structure.groups] == ["a", "b"]
    model(X)
    small = remove_units(model, slice_plan(structure, {"a": np.arange(16) < 9}))
    small(X)
    assert small.features.shape == (4, 9)
    assert features.grad_fn is not None and model.features.grad_fn is not None


def test_a_copy_shares_what_the_original_shares() -> None:
    model = Keeps().eval()
    with torch.no_grad():
        model(X)
    structure = analyse(model, X)
    model(X)
    small = remove_units(model, slice_plan(structure, {}))
    assert small.features is small.several[0]
    assert not small.features.requires_grad
    assert torch.equal(small.named["sum"][0], model.named["sum"][0])
