"""What can be asked for by name."""

from __future__ import annotations

import pytest
import torch

from epigram import recipes
from epigram.convert import bayesianize
from epigram.errors import ConfigError
from epigram.records import Floor


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_can_be_built_and_converted(name: str) -> None:
    recipe = recipes.get(name)
    assert recipe.name == name
    assert recipe.description
    assert 0.9 < Floor.parse(recipe.floor).value < 1
    net, images = recipe.build(), torch.randint(0, 256, (2, 1, 28, 28), dtype=torch.uint8)
    assert recipe.preprocess is not None
    x = recipe.preprocess(images)
    twin = bayesianize(net, x, settings=recipe.settings.posterior)
    assert twin(x).shape == (2, 10)
    expected = "horseshoe" if "horseshoe" in name else "jeffreys"
    assert recipe.settings.posterior.prior == f"group-{expected}"


def test_the_two_writings_of_one_network_have_the_same_settings() -> None:
    linear, convolutional = (recipes.get(f"lenet-300-100{kind}/mnist") for kind in ("", "-conv"))
    assert linear.settings == convolutional.settings
    assert linear.floor == convolutional.floor


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"unknown recipe 'lenet-6/mnist'.*lenet-5/mnist"):
        recipes.get("lenet-6/mnist")
