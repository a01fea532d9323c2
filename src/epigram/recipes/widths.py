"""How wide the layers of a recipe's network are, and the same recipe with others."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from torch import nn

from epigram.errors import ConfigError
from epigram.pipeline import Recipe
from epigram.recipes.networks import LeNet5Caffe, LeNet300100, LeNet300100Conv

_WIDTHS: Final[Mapping[object, Mapping[str, int]]] = MappingProxyType(
    {
        LeNet300100: {"fc1": 300, "fc2": 100},
        LeNet300100Conv: {"fc1": 300, "fc2": 100},
        LeNet5Caffe: {"conv1": 20, "conv2": 50, "fc1": 500},
    }
)


def widths(recipe: Recipe) -> dict[str, int]:
    """Layer -> units, of the layers whose width can be chosen; empty where none can."""
    build: object = recipe.build
    if isinstance(build, functools.partial):
        return {**_WIDTHS.get(build.func, {}), **build.keywords}
    return dict(_WIDTHS.get(build, {}))


def with_widths(recipe: Recipe, chosen: Mapping[str, int]) -> Recipe:
    """The recipe with other widths; those that are not named stay.

    Raises:
        ConfigError: a layer's width cannot be chosen, or is not a whole number from 1 on.
    """
    if not chosen:
        return recipe
    known = widths(recipe)
    for name, width in chosen.items():
        if name not in known:
            raise ConfigError(
                f"widths: got {name!r}, expected one of {', '.join(known) or 'none'} "
                f"of {recipe.name}"
            )
        if type(width) is not int or width < 1:
            raise ConfigError(f"widths.{name}: got {width!r}, expected a whole number >= 1")
    build: object = recipe.build
    network = build.func if isinstance(build, functools.partial) else build
    assert isinstance(network, type)
    assert issubclass(network, nn.Module)
    return replace(recipe, build=functools.partial(network, **(known | dict(chosen))))
