"""A twin and its plain network are in the modes of the network's modules, until they are told another."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from epigram.convert import Twin, bayesianize
from epigram.structure import remove_units, slice_plan

X = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def with_frozen_normalisation() -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5),
        nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2),
    ).train()  # fmt: skip
    network[1].eval()
    network[8].eval()  # read through its positions
    return network


def modes(network: nn.Module) -> list[bool]:
    return [module.training for module in network.children()]


def test_each_module_keeps_its_mode() -> None:
    network = with_frozen_normalisation()
    twin = bayesianize(network, X)
    expected = modes(network)
    assert (modes(twin.network), modes(twin.plain())) == (expected, expected)
    assert modes(copy.deepcopy(twin).plain()) == expected
    keep = {"0": np.arange(6) > 1}
    small = remove_units(network, slice_plan(twin.structure, keep))
    twin.shrink_(keep)
    assert modes(twin.network) == modes(twin.plain()) == modes(small) == expected


def test_a_frozen_normalisation_stays_frozen_while_the_twin_trains() -> None:
    network = with_frozen_normalisation()
    twin = bayesianize(network, X)
    assert twin.training and all(module.training for module in twin.scales.modules())
    frozen, free = (_running_mean(twin, at).clone() for at in (1, 5))
    twin(X).sum().backward()
    assert torch.equal(frozen, _running_mean(twin, 1))
    assert not torch.equal(free, _running_mean(twin, 5))


def _running_mean(twin: Twin, at: int) -> Tensor:
    mean = twin.network.get_submodule(str(at)).running_mean
    assert isinstance(mean, Tensor)
    return mean


def test_a_twin_that_is_told_a_mode_takes_it_as_a_whole() -> None:
    twin = bayesianize(with_frozen_normalisation(), X)
    for mode in (True, False):
        twin.train(mode)
        assert all(module.training is mode for module in twin.modules())
        assert all(module.training is mode for module in twin.plain().modules())


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.read = nn.MultiheadAttention(8, 2), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.read(self.attention(x, x, x)[0])
        return y


def test_an_attention_and_its_output_keep_theirs() -> None:
    model = Attends().train()
    model.attention.out_proj.eval()
    twin = bayesianize(model, torch.randn(5, 2, 8))
    for network in (twin.network, twin.plain()):
        there = network.get_submodule("attention")
        assert there.training and not there.get_submodule("out_proj").training
