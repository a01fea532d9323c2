"""Which scale acts on which input index of a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from epigram.errors import ConfigError
from epigram.priors import GroupScale


@dataclass(frozen=True, eq=False)
class ScaleUse:
    """A scale as one reader sees it.

    Attributes:
        scale: the group's scale.
        index: the unit that each of the reader's input indices belongs to (a channel behind a
            flatten is seen by several inputs), -1 where this scale does not act (inputs of other
            groups beside it); None when input i is unit i.
    """

    scale: GroupScale
    index: Int[Tensor, " in"] | None = None

    def draw(self, batch: int) -> Float[Tensor, "draws in"]:
        """The scale's draw (shared, if one is), spread over the reader's inputs; one row where it is drawn for all examples."""
        return self._spread(self.scale.draw(batch))

    def mean(self) -> Float[Tensor, " in"]:
        """E z, spread over the reader's inputs."""
        return self._spread(self.scale.mean())

    def second_moment(self) -> Float[Tensor, " in"]:
        """E z², spread over the reader's inputs."""
        return self._spread(self.scale.second_moment())

    def inputs(self) -> int:
        """How many inputs the reader must have."""
        return self.scale.units if self.index is None else self.index.numel()

    def _spread(self, units: Tensor) -> Tensor:
        if self.index is None:
            return units
        index = self.index.to(units.device)
        if not self._partial:
            return units.index_select(-1, index)
        # one more unit, always 1, for the inputs without a scale
        units = torch.cat([units, units.new_ones((*units.shape[:-1], 1))], dim=-1)
        return units.index_select(-1, index.where(index >= 0, self.scale.units))

    @cached_property
    def _partial(self) -> bool:
        """Are there inputs on which the scale does not act?"""
        return self.index is not None and bool((self.index < 0).any())


def check_uses(where: str, uses: Sequence[ScaleUse], inputs: int) -> None:
    """Refuse scales that do not fit a reader.

    Raises:
        ConfigError: a scale covers another number of inputs, an index names a unit that is not
            there, or one scale is used twice (then E z² would not be the square of E z).
    """
    for use in uses:
        if use.inputs() != inputs:
            raise ConfigError(
                f"{where}: got a {type(use.scale).__name__} that covers {use.inputs()} inputs, "
                f"expected {inputs}; give ScaleUse an index with one unit per input"
            )
        index = use.index
        if index is not None and index.numel():
            low, high = int(index.min()), int(index.max())
            if low < -1 or high >= use.scale.units:
                raise ConfigError(
                    f"{where}: got a ScaleUse index with units {low}..{high}, expected units "
                    f"0..{use.scale.units - 1} of its {type(use.scale).__name__}, or -1 for none"
                )
    if len({id(use.scale) for use in uses}) != len(uses):
        raise ConfigError(f"{where}: got the same scale twice, expected each at most once")


def product_of_draws(uses: Sequence[ScaleUse], batch: int) -> Float[Tensor, "draws in"] | None:
    """The product of all draws (one row if all are for all examples), or None when every scale is trivial."""
    factor: Tensor | None = None
    for use in uses:
        if not use.scale.trivial:
            drawn = use.draw(batch)
            factor = drawn if factor is None else factor * drawn
    return factor


def product_of_means(uses: Sequence[ScaleUse]) -> Float[Tensor, " in"] | None:
    """The mean of the product (scales are independent), or None when every scale is trivial."""
    factor: Tensor | None = None
    for use in uses:
        if not use.scale.trivial:
            mean = use.mean()
            factor = mean if factor is None else factor * mean
    return factor
