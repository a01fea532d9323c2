"""What can be asked for by name."""

from __future__ import annotations

import pytest
import torch

from epigram import recipes
from epigram.convert import bayesianize
from epigram.data.cifar import CIFAR10, CIFAR10_JPEG
from epigram.errors import ConfigError
from epigram.recipes.pretrained import Pretrained
from epigram.recipes.residual import CifarResNet
from epigram.records import Floor

MNIST = [
    "lenet-300-100",
    "lenet-300-100-bits",
    "lenet-300-100-conv",
    "lenet-5",
    "lenet-5-bits",
    "lenet-5-horseshoe",
]
SMALL = ["mlp-means", "allconv", "resnet20", "resnet20-scratch"]
LARGE = ["resnet56", "resnet50", "resnet50-quarter", "vgg16"]


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretrained weights, if not the real ones."""

    def load(self: Pretrained) -> dict[str, torch.Tensor]:
        return CifarResNet(9 if "56" in self.file else 3).state_dict()

    monkeypatch.setattr(Pretrained, "load", load)


def test_the_list_is_complete() -> None:
    data = ("cifar10", "cifar10-jpeg")
    expected = [f"{n}/mnist" for n in MNIST] + [f"{n}/{d}" for n in SMALL + LARGE for d in data]
    assert recipes.names() == sorted(expected)


@pytest.mark.usefixtures("weights")
@pytest.mark.parametrize("network", MNIST + SMALL)
def test_every_recipe_can_be_built_and_converted(network: str) -> None:
    shape, name = ((1, 28, 28), "mnist") if network in MNIST else ((3, 32, 32), "cifar10")
    recipe = recipes.get(f"{network}/{name}")
    assert recipe.name == f"{network}/{name}"
    assert recipe.description
    if network in MNIST:
        assert 0.9 < Floor.parse(recipe.floor).value < 1
    net, images = recipe.build(), torch.randint(0, 256, (2, *shape), dtype=torch.uint8)
    assert recipe.preprocess is not None
    x = recipe.preprocess(images)
    twin = bayesianize(net, x, settings=recipe.settings.posterior)
    assert twin(x).shape == (2, 10)
    expected = "horseshoe" if "horseshoe" in network else "jeffreys"
    assert recipe.settings.posterior.prior == f"group-{expected}"


@pytest.mark.usefixtures("weights")
@pytest.mark.parametrize("network", SMALL + LARGE)
def test_the_two_data_sets_differ_in_the_data_alone(network: str) -> None:
    original, jpeg = (recipes.get(f"{network}/{data}") for data in ("cifar10", "cifar10-jpeg"))
    assert original.settings == jpeg.settings
    assert original.build is jpeg.build
    assert original.augment == jpeg.augment
    assert original.load_data == CIFAR10.splits
    assert jpeg.load_data == CIFAR10_JPEG.splits
    assert "cifar10-jpeg" in jpeg.description
    for stage in (original.settings.structure, original.settings.finetune):
        assert stage.weight_decay == 0  # the prior is the decay
    assert original.build()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_the_two_writings_of_one_network_have_the_same_settings() -> None:
    linear, convolutional = (recipes.get(f"lenet-300-100{kind}/mnist") for kind in ("", "-conv"))
    assert linear.settings == convolutional.settings
    assert linear.floor == convolutional.floor


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"unknown recipe 'lenet-6/mnist'.*lenet-5/mnist"):
        recipes.get("lenet-6/mnist")
