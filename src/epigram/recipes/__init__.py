"""Named networks, data sets and the settings that go with them."""

from __future__ import annotations

from collections.abc import Callable

from epigram.errors import ConfigError
from epigram.pipeline import Recipe
from epigram.recipes import cifar, lenet
from epigram.recipes.widths import widths, with_widths

_RECIPES: dict[str, Callable[[], Recipe]] = {
    "lenet-300-100/mnist": lenet.lenet_300_100,
    "lenet-300-100-conv/mnist": lenet.lenet_300_100_conv,
    "lenet-5/mnist": lenet.lenet_5,
    "lenet-5-horseshoe/mnist": lenet.lenet_5_horseshoe,
    "lenet-5-bits/mnist": lenet.lenet_5_bits,
    "lenet-300-100-bits/mnist": lenet.lenet_300_100_bits,
    **cifar.recipes(),
}


def names() -> list[str]:
    """All recipes, alphabetically."""
    return sorted(_RECIPES)


def get(name: str) -> Recipe:
    """The recipe called ``name``.

    Raises:
        ConfigError: there is none; the message lists those there are.
    """
    try:
        return _RECIPES[name]()
    except KeyError:
        raise ConfigError(
            f"unknown recipe {name!r}; expected one of {', '.join(names())}"
        ) from None


__all__ = ["Recipe", "get", "names", "widths", "with_widths"]
