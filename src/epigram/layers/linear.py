"""The variational counterpart of nn.Linear."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from epigram.layers.base import VariationalLayer
from epigram.layers.parameters import Variances
from epigram.layers.scaling import ScaleUse
from epigram.priors import GroupScale


class VariationalLinear(VariationalLayer):
    """``nn.Linear`` with a posterior over its weights and a scale on its inputs.

    Args:
        in_features: as in ``nn.Linear``.
        out_features: as in ``nn.Linear``.
        bias: as in ``nn.Linear``.
        scale: an own scale with ``in_features`` units.
        scale_uses: scales that belong to somebody else.
        logvar_init: initial log-variance of weights and bias.
        logvar_min: lower bound that ``clamp_`` enforces on log-variances; None = no bound.
        logvar_max: upper bound likewise.
        variance_eps: added to every output's variance, inside the root.
        variances: "each" weight has one of its own, or they are "tied".
        device: as in ``nn.Linear``.
        dtype: as in ``nn.Linear``.

    Raises:
        ConfigError: a scale does not fit ``in_features``, or a bound makes no sense.

    Example:
        >>> from epigram.priors import GroupJeffreys
        >>> layer = VariationalLinear(4, 3, scale=GroupJeffreys(4))
        >>> tuple(layer(torch.ones(2, 4)).shape)
        (2, 3)
    """

    plain_class: ClassVar[type[nn.Module]] = nn.Linear

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        scale: GroupScale | None = None,
        scale_uses: Sequence[ScaleUse] = (),
        logvar_init: float = -9.0,
        logvar_min: float | None = None,
        logvar_max: float | None = None,
        variance_eps: float = 1e-8,
        variances: Variances = "each",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            nn.Linear(in_features, out_features, bias, device=device, dtype=dtype),
            scale=scale,
            scale_uses=scale_uses,
            logvar_init=logvar_init,
            logvar_min=logvar_min,
            logvar_max=logvar_max,
            variance_eps=variance_eps,
            variances=variances,
        )

    @property
    def in_features(self) -> int:
        """Number of inputs, read off the weights, so that it is right after shrinking."""
        return self.weight_mean.shape[1]

    @property
    def out_features(self) -> int:
        """Number of outputs, read off the weights, so that it is right after shrinking."""
        return self.weight_mean.shape[0]

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """Sampled outputs in ``train()``, the posterior mean's in ``eval()``."""
        return self._forward(x, F.linear)

    def rows(self, x: Float[Tensor, "*batch in"], first: int, last: int) -> Float[Tensor, "..."]:
        """What the outputs ``first`` to ``last`` - 1 alone make of ``x``."""
        return self._forward(x, F.linear, slice(first, last))

    def plain_fields(self) -> dict[str, Any]:
        """What ``nn.Linear`` is called with."""
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "bias": self.bias_mean is not None,
        }

    def _set_geometry(self, plain: nn.Module) -> None:
        """A linear layer has none."""

    def _inputs(self) -> int:
        return self.in_features

    def _prepare(self, x: Tensor) -> Tensor:
        return x

    def _fold(self, weight: Tensor, factor: Tensor) -> Tensor:
        return weight * factor.to(weight.dtype)
