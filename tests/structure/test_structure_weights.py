"""Networks that take no weights but those of some sign or size: their units go all the same, exactly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from epigram.convert import bayesianize
from epigram.structure import analyse, mask_units, remove_units, slice_plan, verify_removal
from epigram.structure.weights import PLACES, draw_weights_

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).double()

FACTORS: dict[str, Callable[[Tensor], Tensor]] = {
    "sqrt": lambda s: 1.0 / s.sqrt(),
    "log": torch.log,
    "pow": lambda s: s.pow(0.3),
    "between zero and one": lambda s: s.log() * (1.6 - s).log(),
    "negative": lambda s: (-(s - 2.0)).sqrt(),
}


class Scales(nn.Module):
    def __init__(self, factor: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.o = nn.Linear(3, 8), nn.Linear(8, 6), nn.Linear(6, 2)
        self.s = nn.Parameter(torch.rand(8) + 0.5)
        self.factor = FACTORS[factor]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.o(F.relu(self.b(self.a(x) * self.factor(self.s))))
        return y


@pytest.mark.parametrize("factor", FACTORS)
def test_units_go_beside_a_parameter_that_is_not_any_number(factor: str) -> None:
    network = Scales(factor).double().eval()
    structure = analyse(network, X)
    assert {group.name: group.units for group in structure.groups} == {"a": 8, "b": 6}
    keep = {"a": np.arange(8) % 3 != 0, "b": np.arange(6) != 2}
    small = remove_units(network, slice_plan(structure, keep))
    assert small.s.shape == (5,)
    verify_removal(small, mask_units(network, structure, keep), X)


def test_a_twin_shrinks_beside_a_positive_parameter() -> None:
    twin = bayesianize(Scales("sqrt").double(), X).eval()
    keep = {"a": np.arange(8) > 2}
    expected = mask_units(twin.plain(), twin.structure, keep)(X)
    twin.shrink_(keep)
    torch.testing.assert_close(twin(X), expected)
    twin.train()(X).sum().backward()


class AddsTheFirst(nn.Module):
    """Its second layer is zero at the start, as those of residual branches are, and would hide a removal."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 8), nn.Linear(8, 2)
        self.s = nn.Parameter(torch.rand(8) + 0.5)
        nn.init.zeros_(self.b.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x) * self.s.log()
        y: Tensor = self.b(h) + self.b(h[:, :1] * torch.ones(h.shape[1], dtype=h.dtype))
        return y


def test_weights_that_are_zero_do_not_hide_what_a_removal_changes() -> None:
    structure = analyse(AddsTheFirst().double(), X)
    assert structure.groups == ()
    assert {left.where for left in structure.left_whole} == {"a"}


def test_weights_are_drawn_where_they_should_be() -> None:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    given = nn.Linear(40, 30)
    with torch.no_grad():
        given.bias[:10] = 0.0
    for place in PLACES:
        drawn = nn.Linear(40, 30)
        drawn.load_state_dict(given.state_dict())
        draw_weights_(drawn, place, generator)
        for name, weight in drawn.named_parameters():
            before = given.get_parameter(name)
            same = float((weight.sign() == before.sign())[before != 0].float().mean())
            assert same == 1.0 if place != "anywhere" else 0.2 < same < 0.8
            assert (weight != before).all()
            if place == "near":
                assert bool(((weight - before).abs() <= 0.6 * before.abs() + 0.2).all())


class Growing(nn.Module):
    """A branch that depends on the width, and counts nothing as long as its coefficient is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 8), nn.Linear(8, 2), nn.Linear(8, 2)
        self.register_buffer("alpha", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.a(x))
        return self.b(h) + self.alpha * self.c(h / h.shape[1] ** 0.5)


def test_a_coefficient_that_is_nothing_yet_hides_nothing() -> None:
    structure = analyse(Growing().double(), X)
    assert not structure.groups
    assert "differs by" in structure.left_whole[0].reason
