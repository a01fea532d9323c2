"""Networks beyond a chain: the engine finds their units, and removing them is exact."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from epigram.records import Structure
from epigram.structure import analyse, mask_units, remove_units, slice_plan, verify_removal


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 5, 3, padding=1)
        self.outer, self.head = nn.Conv2d(5, 6, 3, padding=1), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = F.relu(x + self.outer(F.relu(self.inner(x))))
        return self.head(x.mean((2, 3)))


class Concatenating(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 6, 3, padding=1)
        self.c, self.head = nn.Conv2d(13, 5, 1), nn.Linear(5 * 4, 2)
        self.gain = nn.Parameter(torch.ones(1, 5, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.c(torch.cat([self.a(x), x, self.b(x)], 1)) * self.gain
        return self.head(F.adaptive_avg_pool2d(y, 2).flatten(1))


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 16, 3, groups=8, padding=1, padding_mode="circular")
        self.grouped, self.next = nn.Conv2d(16, 24, 1, groups=4), nn.Conv2d(24, 12, 1)
        self.up = nn.ConvTranspose2d(12, 10, 2, 2)
        self.up_depthwise = nn.ConvTranspose2d(10, 20, 2, groups=10)
        self.up_grouped, self.head = nn.ConvTranspose2d(20, 8, 2, groups=2), nn.Linear(8, 3)
        self.per_channel = nn.GroupNorm(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.depthwise(F.hardswish(self.norm(self.stem(x)))))
        x = self.up(self.next(self.grouped(x)))
        x = self.per_channel(self.up_grouped(self.up_depthwise(x)))
        return self.head(F.interpolate(x, scale_factor=2, mode="bilinear").amax((2, 3)))


class CalledTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.twice, self.c = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.relu(self.twice(F.relu(self.twice(F.relu(self.a(x)))))))


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8 * 16), nn.ConvTranspose2d(8, 4, 2, 2)
        self.c = nn.Conv2d(4, 1, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x)).view(x.size(0), -1, 4, 4)
        return self.c(F.interpolate(F.relu(self.b(x)), scale_factor=2))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.up, self.down = nn.Embedding(11, 8), nn.Linear(8, 16), nn.Linear(16, 8)
        self.out = nn.Linear(8, 11, bias=False)
        self.out.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.words(x)
        return self.out(x + self.down(F.gelu(self.up(x))))


class Regions(nn.Module):
    """A block without gradients, dropout that never sleeps, and an output in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            x = F.relu(self.a(x))
        return {"logits": self.c(F.relu(self.b(F.dropout(x))))}


def volumes() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, 4, 3),
        nn.BatchNorm3d(4),
        nn.MaxPool3d(2),
        nn.Conv3d(4, 3, 2),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(3, 2),
    )


def signals() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 4, 3),
        nn.BatchNorm1d(4),
        nn.MaxPool1d(2),
        nn.ConvTranspose1d(4, 3, 2),
        nn.Dropout1d(),
        nn.Flatten(),
        nn.Linear(12, 2),
    )


IMAGES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
ROWS = torch.randn(3, 6, generator=torch.Generator().manual_seed(2))
CASES: dict[str, tuple[Callable[[], nn.Module], Tensor, dict[str, int]]] = {
    "residual": (Residual, IMAGES, {"stem": 6, "inner": 5}),
    "concatenation": (Concatenating, IMAGES, {"a": 4, "b": 6, "c": 5}),
    "called twice": (CalledTwice, ROWS, {"a": 8}),
    "decoder": (Decoder, ROWS, {"a": 8, "b": 4}),
    "tied": (Tied, torch.arange(6).reshape(2, 3), {"words": 8, "up": 16}),
    "regions": (Regions, ROWS, {"a": 8, "b": 8}),
    "grouped": (
        Grouped,
        IMAGES,
        {"stem": 2, "grouped": 6, "next": 12, "up": 5, "up_grouped": 4},
    ),
    "3d": (volumes, torch.randn(2, 1, 8, 8, 8), {"0": 4, "3": 3}),
    "1d": (signals, torch.randn(2, 2, 8), {"0": 4, "3": 3}),
}


def random_keep(structure: Structure, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    keep = {}
    for group in structure.groups:
        kept = random.permutation(group.units)[: random.integers(1, group.units)]
        keep[group.name] = np.isin(np.arange(group.units), kept)
    return keep


@pytest.mark.parametrize("case", CASES)
def test_units_and_exact_removal(case: str) -> None:
    build, example, expected = CASES[case]
    model = build().double()
    example = example.double() if example.is_floating_point() else example
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    structure = analyse(model, example)
    assert {g.name: g.units for g in structure.groups} == expected
    assert not structure.left_whole
    for seed in range(3):
        keep = random_keep(structure, seed)
        small = remove_units(model, slice_plan(structure, keep))
        masked = mask_units(model, structure, keep)
        fewer = sum(p.numel() for p in small.parameters())
        assert fewer < sum(p.numel() for p in model.parameters())
        assert verify_removal(small, masked, example, tolerance=1e-10) <= 1e-10


def test_concatenated_units_keep_their_columns_beside_the_image() -> None:
    structure = analyse(Concatenating(), IMAGES)
    for group, first in (("a", 0), ("b", 7)):
        (reader,) = [m for m in structure.group(group).members if m.role == "reads"]
        assert reader.tensor == "c.weight"
        np.testing.assert_array_equal(
            reader.index, first + np.arange(structure.group(group).units)[:, None]
        )
    plan = slice_plan(structure, {"b": np.array([False, True, True, True, True, False])})
    np.testing.assert_array_equal(plan["c.weight"][1], [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11])


def test_depthwise_filters_are_carried_with_their_group_count() -> None:
    structure = analyse(Grouped(), IMAGES)
    (carried,) = [m for m in structure.group("stem").members if m.tensor == "depthwise.weight"]
    assert (carried.axis, carried.role) == (0, "carries")
    small = remove_units(Grouped(), slice_plan(structure, {"stem": np.array([True, False])}))
    assert isinstance(small.depthwise, nn.Conv2d)
    assert (small.depthwise.groups, small.depthwise.in_channels) == (4, 4)
    assert (small.depthwise.out_channels, small.grouped.in_channels) == (8, 8)


def test_tied_weights_stay_tied() -> None:
    model = Tied()
    keep = {"words": np.arange(8) % 2 == 0}
    small = remove_units(model, slice_plan(analyse(model, torch.arange(4)[None]), keep))
    assert small.out.weight is small.words.weight
    assert (small.out.in_features, small.words.embedding_dim) == (4, 4)
