"""Surgery keeps everything but the units; analysing leaves no trace."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from epigram.errors import ConfigError
from epigram.records import Group, Member, Structure
from epigram.structure import (
    analyse,
    mask_units,
    rebase,
    remove_units,
    resize_to_shapes_,
    shrink_parameters_,
    slice_plan,
    verify_removal,
)

IMAGES = torch.randn(4, 1, 12, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6)
        self.conv2, self.drop = nn.Conv2d(6, 8, 3), nn.Dropout(0.5)
        self.fc1, self.fc2 = nn.Linear(8 * 4, 10), nn.Linear(10, 3)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.norm(self.conv1(x))), 2)
        x = self.drop(F.relu(self.conv2(x)))[:, :, :2, :2]
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


@pytest.fixture
def network() -> nn.Module:
    model = Network().double()
    model.norm.running_mean.normal_()
    model.norm.running_var.uniform_(0.5, 2.0)
    return model


def thinned(structure: Structure) -> dict[str, np.ndarray]:
    return {g.name: np.arange(g.units) % 3 != 1 for g in structure.groups}


def test_analysing_leaves_model_and_random_state_as_they_were(network: nn.Module) -> None:
    network.train()
    network.drop.eval()
    network.conv1.weight.grad = torch.ones_like(network.conv1.weight)
    before = copy.deepcopy(network.state_dict())
    modes = [module.training for module in network.modules()]
    random = torch.get_rng_state(), np.random.get_state()[1].copy()
    structure = analyse(network, IMAGES)
    keep = thinned(structure)
    small = remove_units(network, slice_plan(structure, keep))
    verify_removal(small, mask_units(network, structure, keep), IMAGES)
    assert [module.training for module in network.modules()] == modes
    assert [module.training for module in small.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random[0])
    np.testing.assert_array_equal(np.random.get_state()[1], random[1])
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert torch.equal(network.conv1.weight.grad, torch.ones_like(network.conv1.weight))


def test_the_small_network_is_of_the_same_class_and_trains_on(network: nn.Module) -> None:
    seen: list[tuple[int, ...]] = []
    network.conv2.register_forward_hook(lambda m, a, out: seen.append(tuple(out.shape)))
    network.fc1.weight.requires_grad_(False)
    structure = analyse(network, IMAGES)
    small = remove_units(network, slice_plan(structure, thinned(structure)))
    assert type(small) is Network and small.calls == 0
    assert (small.conv1.out_channels, small.norm.num_features, small.conv2.in_channels) == (4, 4, 4)
    assert (small.conv2.out_channels, small.fc1.in_features, small.fc1.out_features) == (5, 20, 7)
    assert small.fc2.in_features == 7
    assert not small.fc1.weight.requires_grad and small.fc2.weight.requires_grad
    assert {p.dtype for p in small.parameters()} == {torch.float64}
    seen.clear()
    small.train()
    optimizer = torch.optim.Adam(p for p in small.parameters() if p.requires_grad)
    before = small.conv1.weight.detach().clone()
    small(IMAGES).square().mean().backward()
    optimizer.step()
    assert seen == [(4, 5, 3, 3)]
    assert not torch.equal(before, small.conv1.weight)
    again = remove_units(network, slice_plan(structure, thinned(structure)))
    again.load_state_dict(small.state_dict())
    torch.testing.assert_close(again.eval()(IMAGES), small.eval()(IMAGES), rtol=0, atol=0)


def test_the_small_network_exports(network: nn.Module) -> None:
    structure = analyse(network, IMAGES)
    small = remove_units(network, slice_plan(structure, thinned(structure))).eval()
    exported = torch.export.export(small, (IMAGES,), strict=False).module()
    torch.testing.assert_close(exported(IMAGES), small(IMAGES))


def test_shrinking_in_place_keeps_parameters_and_their_optimiser(network: nn.Module) -> None:
    structure = analyse(network, IMAGES)
    plan = slice_plan(structure, thinned(structure))
    expected = remove_units(network, plan)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    network(IMAGES).sum().backward()
    gradient = network.fc1.weight.grad
    assert gradient is not None
    identity = [id(p) for p in network.parameters()]
    named = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    shrink_parameters_(named, plan)
    assert [id(p) for p in network.parameters()] == identity
    for name, tensor in expected.state_dict().items():
        if "running" not in name and "num_batches" not in name:  # training mode moved those
            assert torch.equal(network.state_dict()[name], tensor)
    columns = plan["fc1.weight"]
    assert torch.equal(network.fc1.weight.grad, gradient[columns[0]][:, columns[1]])
    optimizer.step()


def test_a_plan_for_another_network_changes_nothing(network: nn.Module) -> None:
    before = network.fc1.weight.detach().clone()
    good = {0: np.arange(3)}
    for plan, says in (
        ({"fc1.weight": good, "fc9.weight": good}, "fc9.weight"),
        ({"fc1.weight": good, "fc2.weight": {1: np.array([10])}}, "index 10"),
        ({"fc1.weight": good, "fc2.weight": {2: np.array([0])}}, "no axis 2"),
        ({"fc1.weight": good, "fc2.weight": {1: np.array([], dtype=np.int64)}}, "empty"),
    ):
        with pytest.raises(ConfigError, match=says):
            shrink_parameters_(dict(network.named_parameters()), plan)
        assert torch.equal(network.fc1.weight, before)


def test_rebasing_is_analysing_the_small_network(network: nn.Module) -> None:
    structure = analyse(network, IMAGES)
    keep = thinned(structure)
    small = remove_units(network, slice_plan(structure, keep))
    rebased, fresh = rebase(structure, keep), analyse(small, IMAGES)
    assert rebased.shapes == fresh.shapes
    assert [g.name for g in rebased.groups] == [g.name for g in fresh.groups]
    for ours, theirs in zip(rebased.groups, fresh.groups, strict=True):
        assert ours.units == theirs.units
        for a, b in zip(ours.members, theirs.members, strict=True):
            assert (a.tensor, a.axis, a.role) == (b.tensor, b.axis, b.role)
            np.testing.assert_array_equal(a.index, b.index)
    for a, b in zip(rebased.positions, fresh.positions, strict=True):
        assert (a.name, a.tensor, a.size, a.group) == (b.name, b.tensor, b.size, b.group)
        np.testing.assert_array_equal(a.index, b.index)


def test_removing_in_two_steps_is_removing_at_once(network: nn.Module) -> None:
    structure = analyse(network, IMAGES)
    first = thinned(structure)
    rest = rebase(structure, first)
    second = {g.name: np.arange(g.units) != 0 for g in rest.groups}
    small = remove_units(network, slice_plan(structure, first))
    small = remove_units(small, slice_plan(rest, second))
    both = {name: mask.copy() for name, mask in first.items()}
    for mask in both.values():
        mask[np.flatnonzero(mask)[0]] = False
    at_once = remove_units(network, slice_plan(structure, both))
    assert all(
        torch.equal(small.state_dict()[name], tensor)
        for name, tensor in at_once.state_dict().items()
    )


def test_a_fresh_original_takes_the_shapes_and_values_of_the_small_one(network: nn.Module) -> None:
    structure = analyse(network, IMAGES)
    small = remove_units(network, slice_plan(structure, thinned(structure))).eval()
    fresh = Network().double()
    resize_to_shapes_(fresh, {name: tuple(t.shape) for name, t in small.state_dict().items()})
    fresh.load_state_dict(small.state_dict())
    assert fresh.norm.num_features == 4
    torch.testing.assert_close(fresh.eval()(IMAGES), small(IMAGES), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ({"conv9.weight": (1,)}, "no tensor 'conv9.weight'"),
        ({"conv1.weight": (7, 1, 3, 3)}, "at most"),
        ({"conv1.weight": (6, 9)}, "at most"),
        ({"conv1.weight": (4, 1, 3, 3)}, "bias has 6"),
        ({"norm.weight": (4,)}, "one number"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes: dict[str, tuple[int, ...]], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        resize_to_shapes_(Network(), shapes)


def test_depthwise_and_transposed_layers_are_resized_with_their_groups() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(6, 12, 3, groups=6), nn.ConvTranspose2d(12, 8, 2, groups=2))

    model = build()
    resize_to_shapes_(
        model, {"0.weight": (8, 1, 3, 3), "0.bias": (8,), "1.weight": (8, 3, 2, 2), "1.bias": (6,)}
    )
    assert (model[0].groups, model[0].in_channels, model[0].out_channels) == (4, 4, 8)
    assert (model[1].groups, model[1].in_channels, model[1].out_channels) == (2, 8, 6)
    assert model(torch.randn(1, 4, 5, 5)).shape == (1, 6, 4, 4)


def test_a_structure_written_by_hand_has_axes_as_long_as_its_groups() -> None:
    index = np.arange(4)[:, None]
    members = (Member("a.weight", 0, "produces", index), Member("b.weight", 1, "reads", index))
    plan = slice_plan(
        Structure((Group("a", 4, members),)), {"a": np.array([True, False, True, True])}
    )
    np.testing.assert_array_equal(plan["a.weight"][0], [0, 2, 3])
    np.testing.assert_array_equal(plan["b.weight"][1], [0, 2, 3])
