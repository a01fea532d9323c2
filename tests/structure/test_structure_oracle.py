"""The groups are Torch-Pruning's where it is right; two networks on which it is silently wrong."""

from __future__ import annotations

import copy
import warnings
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from epigram.errors import RemovalError
from epigram.records import Group
from epigram.structure import analyse, mask_units, remove_units, slice_plan, verify_removal

pytestmark = pytest.mark.filterwarnings("ignore")

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
Touched = dict[tuple[str, str], set[int]]


def densenet() -> nn.Module:
    return torchvision.models.DenseNet(8, (2, 2), num_init_features=8, num_classes=5)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: torchvision.models.resnet18(weights=None),
    "densenet": densenet,
    "mobilenet_v2": lambda: torchvision.models.mobilenet_v2(weights=None, width_mult=0.25),
}


def dependencies(model: nn.Module, example: Tensor) -> Any:
    import torch_pruning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch_pruning.DependencyGraph().build_dependency(model, example_inputs=example)


def their_group(graph: Any, model: nn.Module, name: str, *units: int) -> Any:
    import torch_pruning

    module = model.get_submodule(name)
    return graph.get_pruning_group(module, torch_pruning.prune_conv_out_channels, idxs=list(units))


def theirs(graph: Any, model: nn.Module, name: str, unit: int) -> Touched:
    names = {module: path for path, module in model.named_modules()}
    found: Touched = defaultdict(set)
    for dependency, indices in their_group(graph, model, name, unit):
        module = dependency.target.module
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            side = "out" if graph.is_out_channel_pruning_fn(dependency.handler) else "in"
            found[names[module], side] |= {int(i) for i in indices}
    return dict(found)


def ours(group: Group, unit: int) -> Touched:
    found: Touched = defaultdict(set)
    for member in group.members:
        module, _, leaf = member.tensor.rpartition(".")
        if leaf == "weight":
            side = "in" if member.role == "reads" else "out"
            found[module, side] |= set(member.index[unit].tolist())
    return dict(found)


@pytest.mark.parametrize("name", MODELS)
def test_groups_are_those_of_torch_pruning(name: str) -> None:
    model = MODELS[name]().eval()
    structure, graph = analyse(model, IMAGES), dependencies(model, IMAGES)
    assert len(structure.groups) > 5 and not structure.left_whole
    for group in structure.groups:
        for unit in (0, group.units - 1):
            assert ours(group, unit) == theirs(graph, model, group.name, unit), group.name


class Moving(nn.Module):
    """Channels that change places between two layers."""

    def __init__(self, move: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.move = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1), move

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.move(self.first(x)))


def with_mirror(x: Tensor) -> Tensor:
    return x + x.flip(1)


def shuffled(x: Tensor) -> Tensor:
    b, c, h, w = x.shape
    return x.view(b, 2, c // 2, h, w).transpose(1, 2).flatten(1, 2)


@pytest.mark.parametrize(("move", "pair"), [(with_mirror, {0, 7}), (shuffled, {0, 4})])
def test_where_channels_change_places_torch_pruning_is_wrong(
    move: Callable[[Tensor], Tensor], pair: set[int]
) -> None:
    """It takes any two channels, and the columns of the same numbers; the result is another function."""
    torch.manual_seed(0)
    model, example = Moving(move).double(), IMAGES.double()
    structure = analyse(model, example)
    (group,) = structure.groups
    assert ours(group, 0)["first", "out"] == pair
    keep = {"first": np.arange(4) > 0}
    small = remove_units(model, slice_plan(structure, keep))
    verify_removal(small, mask_units(model, structure, keep), example, tolerance=1e-10)
    wrong, silent = copy.deepcopy(model), copy.deepcopy(model)
    their_group(dependencies(wrong, example), wrong, "first", 0, 1).prune()
    silent.second.weight.data[:, :2] = 0.0
    assert wrong.second.in_channels == 6
    with pytest.raises(RemovalError):
        verify_removal(wrong, silent, example)
