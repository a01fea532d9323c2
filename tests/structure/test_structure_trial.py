"""Trial removals: by shapes first, in a network that does not blow up rounding, values as judges."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from epigram.errors import ConfigError
from epigram.structure import (
    analyse,
    general,
    mask_units,
    removals,
    remove_units,
    set_attributes_,
    slice_plan,
    verify_removal,
)

ROWS = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))


class Gated(nn.Module):
    """Sizes of a split in a tuple, all of which have to follow (as in MambaOut)."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.mix = nn.Linear(8, 24), nn.Conv1d(4, 4, 1, groups=4)
        self.out, self.sizes = nn.Linear(12, 3), (12, 8, 4)

    def forward(self, x: Tensor) -> Tensor:
        gate, plain, mixed = torch.split(self.into(x), self.sizes, dim=-1)
        mixed = self.mix(mixed.unsqueeze(-1)).squeeze(-1)
        return self.out(F.silu(gate) * torch.cat((plain, mixed), dim=-1))


class CountsBoth(nn.Module):
    """A number that counts two groups, one of which stays (as in SHViT)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.v, self.b = nn.Linear(8, 12), nn.Linear(4, 4), nn.Linear(12, 3)
        self.norm, self.dim = nn.LayerNorm(4), 12

    def forward(self, x: Tensor) -> Tensor:
        first, rest = torch.split(self.a(x), [4, self.dim - 4], dim=-1)
        first = self.v(self.norm(first)).view(-1, 4)
        return self.b(F.relu(torch.cat((first, rest), dim=-1)))


class Literal(nn.Module):
    """The first layer's units are taken by their place and the second's are counted; the third's are neither."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(4, 10), nn.Linear(5, 7)
        self.d = nn.Linear(7, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(F.relu(self.a(x))[:, :4])
        return self.d(F.relu(self.c(x.view(-1, 2, 5).sum(1))))


class LooksAtValues(nn.Module):
    """A forward pass that the meta device cannot follow, behind a block that it can."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 6), nn.Linear(6, 5), nn.Linear(5, 2)
        self.shift = [0.25] * 5

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(F.relu(self.a(x)))
        return self.c(F.relu(x + torch.tensor(self.shift)))


class FlattensForItsNorm(nn.Module):
    """As in LeViT: a normalisation per channel over all positions of all examples."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(torch.stack([x, x.flip(1)], 1))
        return self.b(F.relu(self.norm(x.flatten(0, 1)).reshape_as(x)))


def test_units_pass_a_reshape_as_another_tensor():
    network = FlattensForItsNorm().double().eval()
    structure = analyse(network, ROWS.double())
    assert [(group.name, group.units) for group in structure.groups] == [("a", 6)]
    keep = {"a": np.arange(6) % 3 != 1}
    small = remove_units(network, slice_plan(structure, keep))
    verify_removal(small, mask_units(network, structure, keep), ROWS.double())


def test_entries_of_a_tuple_follow_the_units_they_count():
    network = Gated().double().eval()
    structure = analyse(network, ROWS.double())
    assert {group.units for group in structure.groups} == {8, 4}
    assert sorted(a.path for a in structure.attributes) == ["sizes[0]", "sizes[1]", "sizes[2]"]
    keep = {g.name: np.arange(g.units) % 4 != 1 for g in structure.groups}
    small = remove_units(network, slice_plan(structure, keep))
    assert small.sizes == (9, 6, 3)
    assert network.sizes == (12, 8, 4)
    verify_removal(small, mask_units(network, structure, keep), ROWS.double())


@pytest.mark.parametrize("path", ["sizes[3]", "sizes", "into[0]", "sizes[x]", "out.in_features[0]"])
def test_an_entry_that_is_not_there_is_refused(path: str):
    network = Gated()
    with pytest.raises(ConfigError, match="has no whole number of that name"):
        set_attributes_(network, {path: 2})
    assert network.sizes == (12, 8, 4)


@pytest.fixture
def every_network_hollow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise only those are whose forward pass is long."""
    monkeypatch.setattr(general, "_LIGHT_FLOPS", 0)


@pytest.mark.usefixtures("every_network_hollow")
@pytest.mark.parametrize("hollow", [True, False])
def test_literals_are_found_with_and_without_a_hollow_network(
    hollow: bool, monkeypatch: pytest.MonkeyPatch
):
    if not hollow:
        monkeypatch.setattr(general, "hollow", lambda network, inputs: None)
    structure = analyse(Literal(), ROWS)
    assert [group.name for group in structure.groups] == ["c"]
    assert {left.where for left in structure.left_whole} >= {"a", "b"}


@pytest.mark.usefixtures("every_network_hollow")
@pytest.mark.parametrize("build", [Gated, Literal, LooksAtValues])
def test_what_a_hollow_network_says_changes_no_structure(
    build: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
):
    network = build()
    found = analyse(network, ROWS)
    monkeypatch.setattr(general, "hollow", lambda network, inputs: None)
    alone = analyse(network, ROWS)
    assert [(g.name, g.units) for g in found.groups] == [(g.name, g.units) for g in alone.groups]
    assert found.attributes == alone.attributes
    assert {x.where for x in found.left_whole} == {x.where for x in alone.left_whole}


class SplitsInTwo(nn.Module):
    """A shape written as a literal, which cannot follow."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(-1, 2, 3)


@pytest.mark.usefixtures("every_network_hollow")
def test_what_fails_for_its_shapes_costs_no_forward_pass(monkeypatch: pytest.MonkeyPatch):
    passes = []
    run = removals.outputs_of

    def counted(network: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
        passes.append(next(network.parameters()).device.type)
        return run(network, inputs)

    monkeypatch.setattr(removals, "outputs_of", counted)
    network = nn.Sequential(
        nn.Linear(8, 6),
        *(nn.Sequential(SplitsInTwo(), nn.Flatten(), nn.Linear(6, 6)) for _ in range(5)),
        nn.Linear(6, 4),
        nn.ReLU(),
        nn.Linear(4, 2),
    )
    structure = analyse(network, ROWS)
    assert [group.name for group in structure.groups] == ["5.2", "6"]
    assert len(structure.left_whole) >= 5
    assert passes.count("cpu") == 2 * 6  # what is accepted, once on every pattern
    assert passes.count("meta") > 0


def test_a_hollow_network_holds_no_values_and_leaves_the_network_alone():
    network = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)).eval()
    before = copy.deepcopy(network.state_dict())
    empty = general.hollow(network, (ROWS,))
    assert empty is not None
    assert {t.device.type for t in empty.state_dict().values()} == {"meta"}
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())
    assert general.flops(network, (ROWS,)) == general.flops(network, (ROWS,), empty)


def test_there_is_no_hollow_network_where_the_meta_device_cannot_follow():
    class Asks(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if float(x.sum()) > -1e9 else x

    assert general.hollow(Asks(8, 2), (ROWS,)) is None


class Gates(nn.Module):
    """A block as in EfficientNet: what a gate lets through depends on all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)
        self.squeeze, self.excite = nn.Linear(32, 4), nn.Linear(4, 32)

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.up(x))
        return x + self.down(y * self.excite(F.silu(self.squeeze(y))).sigmoid())


def test_a_deep_network_that_is_calm_makes_little_of_rounding():
    network, (x,) = general.in_general_position(
        nn.Sequential(*(Gates() for _ in range(60))), (torch.randn(3, 16),)
    )
    generator = torch.Generator().manual_seed(5)
    nudged = x * (1.0 + 1e-13 * torch.randn(x.shape, generator=generator, dtype=x.dtype))

    def change() -> float:
        with torch.no_grad():
            usual, other = network(x), network(nudged)
        return float((usual - other).abs().max() / usual.abs().max())

    before = change()
    general.calm_(network, (x,))
    assert change() < min(1e-12, before / 20)


def test_calm_layers_put_out_numbers_of_about_one():
    torch.manual_seed(0)
    network = nn.Sequential(*(nn.Linear(8, 8) for _ in range(30))).double()
    general.calm_(network, (ROWS.double(),))
    seen: list[float] = []
    for layer in network:
        layer.register_forward_hook(lambda m, x, y: seen.append(float(y.square().mean().sqrt())))
    with torch.no_grad():
        network(ROWS.double())
    np.testing.assert_allclose(seen, 1.0, rtol=1e-9)


def test_a_number_that_counts_a_group_that_stays_follows_the_other():
    network = CountsBoth().eval()
    structure = analyse(network, ROWS)
    (group,) = structure.groups
    assert group.units == 8
    assert "v" in {left.where for left in structure.left_whole}
    assert [(a.base, a.per_unit) for a in structure.attributes] == [(4, ((group.name, 1),))]
    keep = {group.name: np.arange(8) % 2 == 0}
    small = remove_units(network, slice_plan(structure, keep))
    assert small.dim == 8
    verify_removal(small, mask_units(network, structure, keep), ROWS)
