"""What rounding explains is measured by the outputs themselves, however small they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from epigram.errors import RemovalError
from epigram.structure import analyse, mask_units, remove_units, slice_plan, verify_removal
from epigram.structure.verify import compare

ROWS = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))


def removed(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Without a third of its units, and with these masked."""
    structure = analyse(model, ROWS)
    keep = {g.name: np.arange(g.units) % 3 != 1 for g in structure.groups}
    return remove_units(model, slice_plan(structure, keep)), mask_units(model, structure, keep)


@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e5])
def test_another_network_is_refused_however_small_its_outputs(scale: float) -> None:
    model = network()
    model[2].weight.data.mul_(scale)
    model[2].bias.data.mul_(scale)
    small, masked = removed(model)
    assert verify_removal(small, masked, ROWS) <= 1e-4 * scale
    small[2].weight.data.mul_(1.01)
    with pytest.raises(RemovalError, match="differ by"):
        verify_removal(small, masked, ROWS)


class Cancels(nn.Module):
    """Numbers of ten thousand, whose sum is about one."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(8, 60), nn.Linear(60, 1, bias=False)
        self.into.bias.data.fill_(1e4)
        self.out.weight.data.copy_(torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0, -1.0] * 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.into(x))


def test_outputs_that_cancel_are_compared_in_double_precision() -> None:
    torch.manual_seed(0)
    small, masked = removed(Cancels())
    difference = verify_removal(small, masked, ROWS)
    with torch.no_grad():
        assert difference > 1e-4 * float(masked(ROWS).abs().max())
    with pytest.raises(RemovalError, match="differ by"):
        verify_removal(small, masked, ROWS, tolerance=difference / 2)
    small.out.weight.data[0, 0] += 1e-6
    with pytest.raises(RemovalError, match="differ by"):
        verify_removal(small, masked, ROWS)


class Policy(nn.Module):
    """What is not allowed has logits of another order; the width of ``a`` is a factor of all others."""

    def __init__(self, fill: float) -> None:
        super().__init__()
        self.a, self.b, self.fill = nn.Linear(8, 16), nn.Linear(16, 5), fill

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        legal = torch.arange(5) < 3
        return (self.b(h / h.shape[1] ** 0.5)).masked_fill(~legal, self.fill)


@pytest.mark.parametrize("fill", [0.0, -1e4, -1e9, -float("inf"), torch.finfo().min])
def test_masked_outputs_do_not_hide_the_others(fill: float) -> None:
    torch.manual_seed(0)
    model = Policy(fill)
    structure = analyse(model, ROWS)
    assert not structure.groups
    assert "differs by" in structure.left_whole[0].reason
    small = Policy(fill)
    small.load_state_dict(model.state_dict())
    small.b.weight.data.mul_(1.01)
    with pytest.raises(RemovalError, match="differ by"):
        verify_removal(small, model, ROWS)
    assert verify_removal(model, model, ROWS) == 0.0


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ([float("inf"), 2.0], [1.0, 2.0]),
        ([1.0, 2.0], [float("inf"), 2.0]),
        ([float("inf"), 2.0], [-float("inf"), 2.0]),
        ([1 + 1j, 2], [1 + 5j, 2]),
        ([0.0, 0.0], [0.0, 1e-9]),
        ([1e12, 2.0], [1e12, 2.1]),
    ],
)
def test_differences_beyond_rounding(ours: list[complex], theirs: list[complex]) -> None:
    difference, allowed, reason = compare([torch.tensor(ours)], [torch.tensor(theirs)])
    assert difference > allowed
    assert not reason


def test_differences_that_rounding_explains() -> None:
    theirs = torch.tensor([-float("inf"), -1e9, 3.0, 1e-7, 0.0])
    ours = torch.tensor([-float("inf"), -1.00001e9, 3.0001, 2e-6, 1e-7])
    difference, allowed, reason = compare([ours], [theirs])
    assert difference <= allowed
    assert not reason
