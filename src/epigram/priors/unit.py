"""No group sparsity: z = 1."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from epigram.priors.base import GroupScale

NEVER_REMOVABLE = -100.0
"""The removability of a scale without noise; finite, so that quantiles and plots stay finite."""


class UnitScale(GroupScale):
    """The constant 1 for every unit, with no parameters and no KL; readers skip it.

    Args:
        units: how many units the group has.
        device: where its answers live.
        dtype: their type.

    Example:
        >>> UnitScale(2).kl_nats().item()
        0.0
    """

    trivial: ClassVar[bool] = True

    _like: Tensor

    def __init__(
        self,
        units: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(units)
        self._units = units
        self.register_buffer("_like", torch.empty(0, device=device, dtype=dtype), persistent=False)

    @property
    def units(self) -> int:
        """How many units are left."""
        return self._units

    def sample(
        self,
        batch: int,
        *,
        generator: torch.Generator | None = None,  # noqa: ARG002  nothing to draw
    ) -> Float[Tensor, "batch units"]:
        """Ones; no noise is drawn."""
        return self._like.new_ones(batch, self.units)

    def mean(self) -> Float[Tensor, " units"]:
        """One."""
        return self._like.new_ones(self.units)

    def mode(self) -> Float[Tensor, " units"]:
        """One."""
        return self.mean()

    def second_moment(self) -> Float[Tensor, " units"]:
        """One."""
        return self.mean()

    def kl_nats(self) -> Float[Tensor, ""]:
        """Zero."""
        return self._like.new_zeros((), dtype=torch.promote_types(self._like.dtype, torch.float32))

    def removability(self) -> Float[Tensor, " units"]:
        """``NEVER_REMOVABLE`` for every unit."""
        return self._like.new_full((self.units,), NEVER_REMOVABLE)

    def unit_parameters(self) -> dict[str, int]:
        """None."""
        return {}

    def keep_(self, index: Int[Tensor, " kept"]) -> None:
        """Keep as many units as ``index`` names."""
        self._units = index.numel()
