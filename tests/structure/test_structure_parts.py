"""Networks that cannot be followed from end to end: their parts shrink, the rest is left and named."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from epigram.convert import bayesianize
from epigram.errors import UnsupportedModelError
from epigram.structure import analyse, mask_units, rebase, remove_units, slice_plan, verify_removal

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def body(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, outputs, 3)
    )


class Detector(nn.Module):
    """A body, a choice of places by their values, and a head for each of those."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.score = body(3, 5), nn.Conv2d(5, 1, 1)
        self.head = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, images: list[Tensor]) -> Tensor:
        x = self.body(torch.stack(images))
        chosen = self.score(x).flatten() > 0
        if chosen.sum() > 3:
            chosen = ~chosen
        return self.head(x.movedim(1, -1).flatten(0, 2)[chosen])


@pytest.fixture
def detector() -> nn.Module:
    torch.manual_seed(0)
    return Detector().double().eval()


def test_parts_shrink_and_the_rest_is_named(detector: nn.Module) -> None:
    example = (list(IMAGES),)
    structure = analyse(detector, example)
    assert {g.name: g.units for g in structure.groups} == {"body.0": 6, "head.0": 8}
    (entry,) = structure.left_whole
    assert (entry.where, entry.operation) == ("forward", "export")
    assert "control flow" in entry.reason and entry.reason.endswith("kept: body, head")
    keep = {"body.0": np.arange(6) > 2, "head.0": np.arange(8) % 2 == 0}
    small = remove_units(detector, slice_plan(structure, keep))
    assert isinstance(small, Detector)
    assert (small.body[0].out_channels, small.head[0].out_features) == (3, 4)
    fresh = (list(torch.randn_like(IMAGES)),)
    verify_removal(small, mask_units(detector, structure, keep), fresh, tolerance=1e-10)
    small(*fresh).square().mean().backward()
    assert all(p.grad is not None for p in small.head.parameters())
    again = analyse(small, example)
    assert [(g.name, g.units) for g in again.groups] == [
        (g.name, g.units) for g in rebase(structure, keep).groups
    ]


def test_its_twin_has_scales_where_examples_can_be_told_apart(detector: nn.Module) -> None:
    """What reads places of all images together cannot see one draw per image."""
    example = (list(IMAGES),)
    twin = bayesianize(detector, example)
    assert twin.names == ("body.0",)
    assert "on one axis" in twin.unscaled["head.0"]
    torch.testing.assert_close(twin.eval()(*example), detector(*example), rtol=0, atol=1e-12)
    twin.train()
    loss = twin(*example).square().mean() + twin.kl_nats() / 1000
    loss.backward()
    assert torch.isfinite(loss)


class Outside(nn.Module):
    """Uses what belongs to its parts: a tied weight, a module inside, a weight in a function."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.first = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4))
        self.second = nn.Sequential(nn.Linear(4, 7), nn.ReLU(), nn.Linear(7, 4))
        if how == "tied":
            self.again = nn.Linear(4, 6)
            self.again.weight = self.first[0].weight

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.first(x))
        if y.sum() > 1e9:
            y = -y
        if self.how == "tied":
            return y + self.again(x).sum()
        if self.how == "called":
            return y + (self.first[0](x) * torch.arange(6.0, dtype=x.dtype)).sum()
        return y + (F.linear(x, self.first[0].weight) * torch.arange(6.0, dtype=x.dtype)).sum()


@pytest.mark.parametrize(
    ("how", "reason"),
    [("tied", "another part"), ("called", "called from elsewhere"), ("used", "does not work")],
)
def test_a_part_that_others_reach_into_stays(how: str, reason: str) -> None:
    torch.manual_seed(0)
    structure = analyse(Outside(how).double(), torch.randn(3, 4).double())
    assert [(g.name, g.units) for g in structure.groups] == [("second.0", 7)]
    assert any(reason in entry.reason for entry in structure.left_whole)


class Choosing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) if x.sum() > 0 else x


def test_where_no_part_has_units_the_first_reason_is_given() -> None:
    with pytest.raises(UnsupportedModelError, match="trace Choosing"):
        analyse(Choosing(), torch.ones(2, 6))
