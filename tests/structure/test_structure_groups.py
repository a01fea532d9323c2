"""The units of plain networks: who produces, carries and reads them, checked member by member."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from epigram.records import Structure
from epigram.structure import analyse


def lenet5() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 20, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(20, 50, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(800, 500),
        nn.ReLU(),
        nn.Linear(500, 10),
    )


class LeNet5(nn.Module):
    """The same network, with functions and a flattening of one's choice."""

    def __init__(self, flatten: str) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 20, 5), nn.Conv2d(20, 50, 5)
        self.fc1, self.fc2 = nn.Linear(800, 500), nn.Linear(500, 10)
        self.how = flatten

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x), inplace=True), 2)
        if self.how == "torch.flatten":
            x = torch.flatten(x, 1)
        elif self.how == "view":
            x = x.view(x.size(0), -1)
        elif self.how == "reshape":
            x = x.reshape(x.shape[0], -1)
        else:
            x = x.flatten(1)
        x = F.dropout(F.relu(self.fc1(x)), training=self.training)
        return F.log_softmax(self.fc2(x), dim=1)


def members(structure: Structure, group: str) -> dict[tuple[str, int, str], np.ndarray]:
    return {(m.tensor, m.axis, m.role): m.index for m in structure.group(group).members}


def column(count: int) -> np.ndarray:
    return np.arange(count)[:, None]


def test_lenet5_has_three_groups_with_these_members() -> None:
    structure = analyse(lenet5(), torch.randn(4, 1, 28, 28))
    assert [(g.name, g.units) for g in structure.groups] == [("0", 20), ("3", 50), ("7", 500)]
    second = members(structure, "3")
    assert set(second) == {
        ("3.weight", 0, "produces"),
        ("3.bias", 0, "produces"),
        ("7.weight", 1, "reads"),
    }
    np.testing.assert_array_equal(second["3.weight", 0, "produces"], column(50))
    # The flattened map is channel-major: channel c has the columns 16 c to 16 c + 15.
    np.testing.assert_array_equal(second["7.weight", 1, "reads"], np.arange(800).reshape(50, 16))
    np.testing.assert_array_equal(members(structure, "0")["3.weight", 1, "reads"], column(20))
    assert not structure.left_whole


@pytest.mark.parametrize("flatten", ["torch.flatten", "view", "reshape", "flatten"])
def test_lenet5_as_a_class_has_the_same_groups(flatten: str) -> None:
    structure = analyse(LeNet5(flatten), (torch.randn(3, 1, 28, 28),))
    assert [(g.name, g.units) for g in structure.groups] == [
        ("conv1", 20),
        ("conv2", 50),
        ("fc1", 500),
    ]
    index = members(structure, "conv2")["fc1.weight", 1, "reads"]
    np.testing.assert_array_equal(index, np.arange(800).reshape(50, 16))
    assert not structure.left_whole


def test_positions_behind_a_flatten_belong_to_their_channels() -> None:
    (axis,) = analyse(lenet5(), torch.randn(2, 1, 28, 28)).positions
    assert (axis.name, axis.tensor, axis.axis, axis.size, axis.group) == (
        "7",
        "7.weight",
        1,
        800,
        "3",
    )
    np.testing.assert_array_equal(axis.index, np.repeat(np.arange(50), 16))


@pytest.mark.parametrize("head", [[nn.Flatten()], [nn.Flatten(), nn.BatchNorm1d(784)]])
def test_pixels_of_an_mlp_are_positions_of_no_group(head: list[nn.Module]) -> None:
    model = nn.Sequential(*head, nn.Linear(784, 30), nn.ReLU(), nn.Linear(30, 10))
    structure = analyse(model, torch.randn(4, 1, 28, 28))
    first = str(len(head))
    assert [(g.name, g.units) for g in structure.groups] == [(first, 30)]
    (axis,) = structure.positions
    assert (axis.name, axis.size, axis.group, axis.index) == (first, 784, None, None)


def test_normalisation_carries() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.PReLU(8), nn.Conv2d(8, 4, 3)
    )
    found = members(analyse(model, torch.randn(2, 3, 8, 8)), "0")
    names = ("1.weight", "1.bias", "1.running_mean", "1.running_var", "2.weight")
    assert {key for key in found if key[2] == "carries"} == {(n, 0, "carries") for n in names}
    assert ("0.weight", 0, "produces") in found and ("3.weight", 1, "reads") in found


def test_one_linear_layer_has_pixels_but_no_units() -> None:
    structure = analyse(nn.Linear(6, 3), torch.randn(2, 6))
    assert structure.groups == ()
    assert [axis.size for axis in structure.positions] == [6]


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_the_batch_size_does_not_matter(batch: int) -> None:
    structure = analyse(LeNet5("view"), torch.randn(batch, 1, 28, 28))
    assert [g.units for g in structure.groups] == [20, 50, 500]


def test_channels_of_an_input_of_one_position_are_positions_too() -> None:
    """A 1x1 convolution on a 1x1 map reads numbers, as a linear layer does; on a larger map not."""
    net = nn.Sequential(nn.Conv2d(6, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.Flatten())
    (axis,) = analyse(net, torch.randn(2, 6, 1, 1)).positions
    assert (axis.name, axis.size, axis.group, axis.index) == ("0", 6, None, None)
    assert analyse(net, torch.randn(2, 6, 2, 2)).positions == ()


def test_a_convolution_of_a_flattened_map_has_positions_of_its_channels() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 3, 3), nn.Conv2d(12, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x).flatten(1)[:, :, None, None]).flatten(1)

    (axis,) = analyse(Net(), torch.randn(2, 1, 4, 4)).positions
    assert axis.group == "first"
    np.testing.assert_array_equal(axis.index, np.repeat(np.arange(3), 4))


def test_a_layer_whose_result_is_thrown_away_shrinks_with_its_input() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.into, self.side, self.out = nn.Linear(6, 8), nn.Linear(8, 4), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.into(x))
            self.side(x)
            x.softmax(1)
            return self.out(x)

    (group,) = analyse(Net(), torch.randn(2, 6)).groups
    assert {m.tensor for m in group.members} >= {"side.weight", "out.weight", "into.weight"}


class Mixed(nn.Module):
    """Units side by side with what always stays, along another axis."""

    def __init__(self, mix: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.c, self.mix = nn.Linear(6, 6), nn.Linear(6, 4), nn.Linear(4, 2), mix

    def forward(self, x: Tensor) -> Tensor:
        both = self.mix(F.relu(self.a(x)), x)
        return self.c(F.relu(self.b(both))).sum(1)


@pytest.mark.parametrize(
    "mix",
    [
        lambda h, x: torch.stack([h, x], 1),
        lambda h, x: torch.stack([x, h, x], 1),
        lambda h, x: torch.cat([torch.zeros(len(x), 1, 6), h[:, None]], 1),
        lambda h, x: F.scaled_dot_product_attention(*[torch.stack([h, x], 1)] * 3),
    ],
)
def test_units_beside_what_stays_are_pinned(mix: Callable[[Tensor, Tensor], Tensor]) -> None:
    structure = analyse(Mixed(mix), torch.randn(2, 6))
    assert [g.name for g in structure.groups] == ["b"]
    assert "a" in {left.where for left in structure.left_whole}
