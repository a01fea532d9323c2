"""Group normal-Jeffreys: p(z) ∝ 1/|z|, q(z) = N(mean, var)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from epigram.maths.kl import at_least_fp32, kl_normal_jeffreys
from epigram.maths.moments import sample_normal
from epigram.maths.special import log_alpha
from epigram.priors.base import GroupScale, checked_start


class GroupJeffreys(GroupScale):
    """Normal posterior over each unit's scale under the improper log-uniform prior.

    Removability is log alpha = log(var / mean²): the noise-to-signal ratio of the scale.

    Args:
        units: how many units the group has.
        logvar_init: initial log-variance; the mean starts at exactly 1, so this is also the initial
            log alpha. The default, log 0.01, is a 10 % noise: large enough for a useful gradient
            (the KL falls with slope near ½ per unit), small enough not to hurt a trained network.
        logvar_min: lower bound that ``clamp_`` enforces on ``logvar``; None = no bound.
        logvar_max: upper bound likewise.
        device: where the parameters live.
        dtype: their type.

    References:
        Louizos, Ullrich, Welling 2017, "Bayesian Compression for Deep Learning", §4.1.

    Example:
        >>> scale = GroupJeffreys(3)
        >>> scale.mean().tolist(), tuple(scale.sample(5).shape)
        ([1.0, 1.0, 1.0], (5, 3))
    """

    def __init__(
        self,
        units: int,
        *,
        logvar_init: float = math.log(1e-2),
        logvar_min: float | None = None,
        logvar_max: float | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(units, logvar_min=logvar_min, logvar_max=logvar_max)
        start = checked_start("GroupJeffreys", logvar_init, logvar_min, logvar_max)
        self.z_mean = nn.Parameter(torch.ones(units, device=device, dtype=dtype))
        self.z_logvar = nn.Parameter(torch.full((units,), start, device=device, dtype=dtype))

    @property
    def units(self) -> int:
        """How many units are left."""
        return self.z_mean.shape[0]

    def sample(
        self, batch: int, *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "batch units"]:
        """Mean + std · noise, one per example."""
        noise = torch.randn(
            batch,
            self.units,
            generator=generator,
            device=self.z_mean.device,
            dtype=self.z_mean.dtype,
        )
        return sample_normal(self.z_mean, self.z_logvar, noise)

    def mean(self) -> Float[Tensor, " units"]:
        """E z."""
        return self.z_mean

    def mode(self) -> Float[Tensor, " units"]:
        """The mean: a normal density peaks there."""
        return self.z_mean

    def second_moment(self) -> Float[Tensor, " units"]:
        """E z² = mean² + var."""
        return self.z_mean.square() + self.z_logvar.exp()

    def kl_nats(self) -> Float[Tensor, ""]:
        """KL to the log-uniform prior, summed over units, nats (a fit, error < 0.01 per unit)."""
        return kl_normal_jeffreys(self.z_mean, self.z_logvar)

    def removability(self) -> Float[Tensor, " units"]:
        """Log alpha = log(var / mean²)."""
        return log_alpha(at_least_fp32(self.z_mean), at_least_fp32(self.z_logvar))

    def unit_parameters(self) -> dict[str, int]:
        """Both parameters have one entry per unit."""
        return {"z_mean": 0, "z_logvar": 0}
