"""What rounding explains is measured by the outputs themselves, however small they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from epigram.errors import RemovalError
from epigram.structure import analyse, mask_units, remove_units, slice_plan, verify_removal

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
