"""The networks without shortcuts: as published, and all their units can go."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from epigram.recipes.convolutional import VGG16, AllConv, MLPMeans
from epigram.structure import analyse, mask_units, remove_units, slice_plan, verify_removal

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    ("network", "parameters"),
    [
        (MLPMeans(), 338_610),
        (AllConv(), 32_770),
        (AllConv(filters=8, classes=3), 3_827),
        (VGG16(), 14_986_698),
        (VGG16(hidden=0), 14_724_042),
    ],
    ids=["mlp-means", "allconv", "allconv-8", "vgg16", "vgg16-one-layer"],
)
def test_parameters_and_outputs(network: nn.Module, parameters: int) -> None:
    assert sum(p.numel() for p in network.parameters()) == parameters
    classes = 3 if parameters == 3_827 else 10
    assert network(IMAGES).shape == (2, classes)


def test_the_perceptron_sees_the_mean_of_the_channels_and_nothing_else() -> None:
    model = MLPMeans().double()
    x = IMAGES.double()
    grey = x.mean(dim=1, keepdim=True).expand_as(x)
    torch.testing.assert_close(model(grey), model(x), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(model(x.flip(-1)), model(x))


def test_vgg_has_the_layers_of_configuration_d() -> None:
    theirs = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"], batch_norm=True)
    ours = VGG16().features
    assert [type(layer) for layer in ours] == [type(layer) for layer in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        if isinstance(mine, nn.Conv2d):
            assert mine.weight.shape == other.weight.shape


def test_the_all_convolutional_network_keeps_its_signal_at_the_start() -> None:
    """He's start: without normalisation nine layers would fade or blow up otherwise."""
    torch.manual_seed(0)
    with torch.no_grad():
        spread = float(AllConv()(torch.randn(64, 3, 32, 32)).std())
    assert 0.05 < spread < 5


@pytest.mark.parametrize(
    ("network", "groups"),
    [
        (MLPMeans(), 2),
        (AllConv(), 8),
        (VGG16(width=1 / 16, hidden=24), 14),
        (VGG16(width=1 / 16, hidden=0), 13),
    ],
    ids=["mlp-means", "allconv", "vgg16", "vgg16-one-layer"],
)
def test_three_units_in_ten_can_go(network: nn.Module, groups: int) -> None:
    model = network.eval()
    structure = analyse(model, IMAGES)
    assert len(structure.groups) == groups
    assert not structure.left_whole
    random = np.random.RandomState(0)
    keep = {
        group.name: random.permutation(group.units) >= 0.3 * group.units
        for group in structure.groups
    }
    small = remove_units(model, slice_plan(structure, keep))
    verify_removal(small, mask_units(model, structure, keep), IMAGES)
    before, after = (sum(p.numel() for p in net.parameters()) for net in (model, small))
    assert after < 0.7 * before
    small.train()(IMAGES).sum().backward()  # it trains on
