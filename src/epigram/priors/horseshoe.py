"""Group horseshoe: half-Cauchy scales, one global and one per unit, with log-normal posteriors.

    z_i = s · z̃_i,   s ~ C⁺(0, τ₀),   z̃_i ~ C⁺(0, 1)

A squared half-Cauchy C⁺(0, k) variable is a Gamma(½, scale k²) variable times an
inverse-Gamma(½, 1) one, so z_i = √(s_a s_b α_i β_i) with

    s_a ~ Gamma(½, τ₀²)   s_b ~ InvGamma(½, 1)   α_i ~ Gamma(½, 1)   β_i ~ InvGamma(½, 1)

and a log-normal posterior for each factor. z is then log-normal too, and each KL is closed. The
parametrisation is non-centred: s is a factor of every draw, not a parameter of the z̃ prior.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from epigram.errors import ConfigError
from epigram.maths.kl import at_least_fp32, kl_lognormal_gamma, kl_lognormal_inverse_gamma
from epigram.maths.special import lognormal_log_mode, lognormal_mean, lognormal_second_moment
from epigram.priors.base import GroupScale, checked_start

_SHAPE = 0.5


class GroupHorseshoe(GroupScale):
    """Log-normal posteriors over the global and the local scales of a group.

    Removability is the negative log-mode of z (log alpha of a log-normal does not depend on where
    it lies). Parameters are means and log-variances of the *logarithms* of the four factors.

    Every factor starts where its prior likes it best, except for what makes E z = 1: a horseshoe
    lives at s ≈ τ₀, and something has to lift z from there to 1. ``global_init`` says who does. At
    ``tau0`` the inverse-Gamma factor β of each unit does, and pays ½ nat for every e-fold of z²
    above the bulk of the prior, a constant pull towards removal on each unit; at 1 the global factor
    s_b does, pays once for all, and units start in the bulk of their prior, without that pull.

    Args:
        units: how many units the group has.
        tau0: scale τ₀ of the half-Cauchy prior of the global scale.
        global_init: median of s at the start, at least ``tau0``; None = ``tau0``.
        logvar_init: initial log-variance of log α and log β; small = the units start confident.
        global_logvar_init: initial log-variance of log s_a and log s_b.
        logvar_min: lower bound that ``clamp_`` enforces on all log-variances; None = no bound.
        logvar_max: upper bound likewise.
        device: where the parameters live.
        dtype: their type.

    Raises:
        ConfigError: ``tau0`` is not positive, ``global_init`` is below it, or a start is out of
            bounds.

    References:
        Louizos, Ullrich, Welling 2017, "Bayesian Compression for Deep Learning", §4.2 and appendix.

    Example:
        >>> scale = GroupHorseshoe(3)
        >>> torch.allclose(scale.mean(), torch.ones(3), rtol=1e-5)
        True
    """

    scale_free: ClassVar[bool] = False

    def __init__(
        self,
        units: int,
        *,
        tau0: float = 1e-5,
        global_init: float | None = None,
        logvar_init: float = math.log(1e-2),
        global_logvar_init: float = math.log(1e-2),
        logvar_min: float | None = None,
        logvar_max: float | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(units, logvar_min=logvar_min, logvar_max=logvar_max)
        global_init = tau0 if global_init is None else global_init
        _check_scales(tau0, global_init)
        self.tau0 = tau0
        local = checked_start("GroupHorseshoe (local)", logvar_init, logvar_min, logvar_max)
        shared = checked_start(
            "GroupHorseshoe (global)", global_logvar_init, logvar_min, logvar_max
        )

        def factor(shape: tuple[int, ...], value: float) -> nn.Parameter:
            return nn.Parameter(torch.full(shape, value, device=device, dtype=dtype))

        gamma, inverse = _prior_optimum(shared)
        lift = 2.0 * math.log(global_init / tau0)
        self.global_gamma_mean = factor((), gamma + 2.0 * math.log(tau0))
        self.global_gamma_logvar = factor((), shared)
        self.global_inverse_mean = factor((), inverse + lift)
        self.global_inverse_logvar = factor((), shared)

        gamma, inverse = _prior_optimum(local)
        # E z = exp(½ Σ means + ⅛ Σ variances) = 1; the median of s z̃ is global_init so far
        lift = -2.0 * math.log(global_init) - 0.5 * (math.exp(shared) + math.exp(local))
        self.local_gamma_mean = factor((units,), gamma)
        self.local_gamma_logvar = factor((units,), local)
        self.local_inverse_mean = factor((units,), inverse + lift)
        self.local_inverse_logvar = factor((units,), local)

    @property
    def units(self) -> int:
        """How many units are left."""
        return self.local_gamma_mean.shape[0]

    def sample(
        self, batch: int, *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "batch units"]:
        """Exp of normal draws: per example one of log s, shared by its units, and one per unit.

        log α and log β are independent normals that only ever act through their sum, so the sum is
        drawn: the distribution is the same and half of the noise is saved.
        """
        local_mean, local_variance = self._log_local()
        global_mean, global_variance = self._log_global()
        noise = torch.randn(
            batch,
            self.units + 1,
            generator=generator,
            device=local_mean.device,
            dtype=local_mean.dtype,
        )
        log_local = torch.addcmul(local_mean, local_variance.sqrt(), noise[:, 1:])
        log_global = torch.addcmul(global_mean, global_variance.sqrt(), noise[:, :1])
        return torch.exp(log_local + log_global)

    def mean(self) -> Float[Tensor, " units"]:
        """E z."""
        return lognormal_mean(*self._log_z())

    def mode(self) -> Float[Tensor, " units"]:
        """The mode of each unit's log-normal z."""
        return lognormal_log_mode(*self._log_z()).exp()

    def second_moment(self) -> Float[Tensor, " units"]:
        """E z²."""
        return lognormal_second_moment(*self._log_z())

    def kl_nats(self) -> Float[Tensor, ""]:
        """KL of all factors, the two global ones counted once, nats."""
        shared = kl_lognormal_gamma(
            self.global_gamma_mean, self.global_gamma_logvar, shape=_SHAPE, scale=self.tau0**2
        ) + kl_lognormal_inverse_gamma(
            self.global_inverse_mean, self.global_inverse_logvar, shape=_SHAPE, scale=1.0
        )
        local = kl_lognormal_gamma(
            self.local_gamma_mean, self.local_gamma_logvar, shape=_SHAPE, scale=1.0
        ) + kl_lognormal_inverse_gamma(
            self.local_inverse_mean, self.local_inverse_logvar, shape=_SHAPE, scale=1.0
        )
        return shared + local.sum()

    def removability(self) -> Float[Tensor, " units"]:
        """The negative log-mode of z: variance minus mean of log z."""
        return -lognormal_log_mode(*self._log_z())

    def unit_parameters(self) -> dict[str, int]:
        """The local factors; the global ones have no units."""
        return {
            "local_gamma_mean": 0,
            "local_gamma_logvar": 0,
            "local_inverse_mean": 0,
            "local_inverse_logvar": 0,
        }

    def _log_local(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of log z̃ = ½ (log α + log β)."""
        return (
            0.5 * (self.local_gamma_mean + self.local_inverse_mean),
            0.25 * (self.local_gamma_logvar.exp() + self.local_inverse_logvar.exp()),
        )

    def _log_global(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of log s = ½ (log s_a + log s_b)."""
        return (
            0.5 * (self.global_gamma_mean + self.global_inverse_mean),
            0.25 * (self.global_gamma_logvar.exp() + self.global_inverse_logvar.exp()),
        )

    def _log_z(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of log z, per unit, in fp32 at least."""
        local_mean, local_variance = self._log_local()
        global_mean, global_variance = self._log_global()
        return (
            at_least_fp32(local_mean + global_mean),
            at_least_fp32(local_variance + global_variance),
        )


def _prior_optimum(logvar: float) -> tuple[float, float]:
    """Log-means with the least KL to Gamma(½, 1) and InvGamma(½, 1) at this log-variance.

    From d/dmean of -½ mean + exp(mean + var/2), zero at log ½ - var/2, and its mirror image.
    """
    mean = math.log(_SHAPE) - 0.5 * math.exp(logvar)
    return mean, -mean


def _check_scales(tau0: float, global_init: float) -> None:
    if not tau0 > 0.0:
        raise ConfigError(f"GroupHorseshoe: got tau0={tau0}, expected a positive number")
    if not global_init >= tau0:
        raise ConfigError(
            f"GroupHorseshoe: got global_init={global_init}, expected at least tau0={tau0}"
        )
