"""Kullback-Leibler divergences in nats, each a sum or per element as its name says.

All of them are computed in fp32 at least, whatever the autocast mode and the parameters' dtype.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from epigram.maths.special import log_alpha, log_alpha_slope_in_mean

_K1, _K2, _K3 = 0.63576, 1.87320, 1.48695  # Molchanov et al. 2017, eq. 14


def at_least_fp32(x: Tensor) -> Tensor:
    """``x`` in fp32 when it is narrower, unchanged otherwise."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


_NEAR = 0.06
"""Below this, four terms of the series of ``exp(x) - 1`` are exact to fp32's digits."""


def _excess(logvar: Tensor) -> Tensor:
    """``var - 1``, all digits of it.

    In fp32 by a series next to 0 and by ``exp`` elsewhere: on some processors ``expm1`` takes fifteen
    times as long as ``exp``, which made it a quarter of a small network's step.
    """
    if logvar.dtype == torch.float64:
        return torch.expm1(logvar)
    near = (logvar / 24.0).add_(1.0 / 6.0).mul_(logvar).add_(0.5).mul_(logvar).add_(1.0)
    return torch.where(logvar.abs() < _NEAR, near.mul_(logvar), torch.exp(logvar).sub_(1.0))


class _KlStandardNormal(torch.autograd.Function):
    """Any number of tensors at once: first all means, then all log-variances.

    The gradients are ``mean`` and ``(var - 1) / 2``. ``var - 1`` is kept from the forward pass and its
    memory becomes the gradient; should the graph be walked again, it is worked out again.
    """

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Tensor:
        means, logvars = tensors[: len(tensors) // 2], tensors[len(tensors) // 2 :]
        ctx.save_for_backward(*tensors)
        ctx.excesses = [_excess(logvar) for logvar in logvars]
        total = means[0].new_zeros(())
        for mean, logvar, excess in zip(means, logvars, ctx.excesses, strict=True):
            flat = mean.reshape(-1)
            total += torch.dot(flat, flat) + excess.sum() - logvar.sum()
        return total.mul_(0.5)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        half = len(ctx.saved_tensors) // 2
        means, logvars = ctx.saved_tensors[:half], ctx.saved_tensors[half:]
        excesses = ctx.excesses or [_excess(logvar) for logvar in logvars]
        ctx.excesses = None
        wanted = ctx.needs_input_grad
        to_means = [m * grad if w else None for m, w in zip(means, wanted[:half], strict=True)]
        grad = 0.5 * grad
        to_logvars = [
            e.mul_(grad) if w else None for e, w in zip(excesses, wanted[half:], strict=True)
        ]
        return (*to_means, *to_logvars)


def kl_standard_normal(
    mean: Float[Tensor, "*shape"], logvar: Float[Tensor, "*shape"]
) -> Float[Tensor, ""]:
    """KL(N(mean, exp logvar) ‖ N(0, 1)), summed over all elements, nats.

    ½ Σ (var + mean² - logvar - 1). Scaling both distributions by the same z leaves it unchanged, so
    it is also KL(q(w|z) ‖ p(w|z)) of weights whose prior is N(0, z²). First derivatives only.

    Args:
        mean: posterior means.
        logvar: posterior log-variances.

    References:
        Louizos, Ullrich, Welling 2017, "Bayesian Compression for Deep Learning", eq. 8.

    Example:
        >>> kl_standard_normal(torch.zeros(3), torch.zeros(3))
        tensor(0.)
    """
    return sum_kl_standard_normal([mean], [logvar])


def sum_kl_standard_normal(means: Sequence[Tensor], logvars: Sequence[Tensor]) -> Float[Tensor, ""]:
    """The sum of ``kl_standard_normal`` over pairs of tensors on one device, as one operation, nats.

    Args:
        means: posterior means, of any shapes; at least one.
        logvars: posterior log-variances, of the same shapes.
    """
    with torch.autocast(means[0].device.type, enabled=False):
        wide = [at_least_fp32(tensor) for tensor in (*means, *logvars)]
        kl: Tensor = _KlStandardNormal.apply(*wide)
        return kl


def kl_log_uniform(log_noise_ratio: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """KL(N(mean, alpha mean²) ‖ log-uniform) per element, nats; absolute error of the fit < 0.01.

    Up to the constant that makes it 0 at infinite alpha. The prior p(z) ∝ 1/|z| is
    improper: this is not a code length (Hron et al. 2017).

    Args:
        log_noise_ratio: log alpha, the log of variance over squared mean.

    References:
        Molchanov, Ashukha, Vetrov 2017, eq. 14.
    """
    with torch.autocast(log_noise_ratio.device.type, enabled=False):
        ratio = at_least_fp32(log_noise_ratio)
        # k1 - k1 sigmoid(t) = k1 sigmoid(-t): no cancellation where the KL is small
        return _K1 * torch.sigmoid(-(_K2 + _K3 * ratio)) + 0.5 * F.softplus(-ratio)


class _KlNormalJeffreys(torch.autograd.Function):
    """``kl_log_uniform`` of a mean and a log-variance, with its slope worked out on the way."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, logvar: Tensor) -> Tensor:
        ratio = log_alpha(mean, logvar)
        step = torch.sigmoid(-(_K2 + _K3 * ratio))
        slope = (-_K1 * _K3) * step * (1.0 - step) - 0.5 * torch.sigmoid(-ratio)
        ctx.save_for_backward(mean, slope)
        return _K1 * step.sum() + 0.5 * F.softplus(-ratio).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        mean, slope = ctx.saved_tensors
        slope = slope * grad
        return slope * log_alpha_slope_in_mean(mean), slope


def kl_normal_jeffreys(
    mean: Float[Tensor, "*shape"], logvar: Float[Tensor, "*shape"]
) -> Float[Tensor, ""]:
    """``kl_log_uniform`` of N(mean, exp logvar), summed, nats, as one operation.

    First derivatives only.

    Args:
        mean: posterior means.
        logvar: posterior log-variances.
    """
    with torch.autocast(mean.device.type, enabled=False):
        kl: Tensor = _KlNormalJeffreys.apply(at_least_fp32(mean), at_least_fp32(logvar))
        return kl


def _lognormal_negative_entropy(logvar: Tensor) -> Tensor:
    """E log q(log x) of a log-normal, without the -E log x that both divergences absorb."""
    return -0.5 * (math.log(2.0 * math.pi) + 1.0 + logvar)


def kl_lognormal_gamma(
    mean: Float[Tensor, "*shape"],
    logvar: Float[Tensor, "*shape"],
    *,
    shape: float,
    scale: float,
) -> Float[Tensor, "*shape"]:
    """KL(LogNormal(mean, exp logvar) ‖ Gamma(shape, scale)) per element, nats.

    lgamma(a) + a log b - a mean + exp(mean + var/2) / b - ½ log(2 π e var), where the Gamma density
    is x^(a-1) exp(-x/b) / (Γ(a) b^a).

    Args:
        mean: mean of log x.
        logvar: log-variance of log x.
        shape: a > 0.
        scale: b > 0 (not a rate).

    References:
        Louizos, Ullrich, Welling 2017, appendix (KL terms of the group horseshoe).
    """
    with torch.autocast(mean.device.type, enabled=False):
        mean, logvar = at_least_fp32(mean), at_least_fp32(logvar)
        cross = math.lgamma(shape) + shape * (math.log(scale) - mean)
        # the exponent carries the division: exp(mean) may be 1e-10 or less
        tail = torch.exp(mean - math.log(scale) + 0.5 * logvar.exp())
        return cross + tail + _lognormal_negative_entropy(logvar)


def kl_lognormal_inverse_gamma(
    mean: Float[Tensor, "*shape"],
    logvar: Float[Tensor, "*shape"],
    *,
    shape: float,
    scale: float,
) -> Float[Tensor, "*shape"]:
    """KL(LogNormal(mean, exp logvar) ‖ InverseGamma(shape, scale)) per element, nats.

    lgamma(a) - a log b + a mean + b exp(var/2 - mean) - ½ log(2 π e var), where the density is
    b^a x^(-a-1) exp(-b/x) / Γ(a).

    Args:
        mean: mean of log x.
        logvar: log-variance of log x.
        shape: a > 0.
        scale: b > 0.

    References:
        Louizos, Ullrich, Welling 2017, appendix (KL terms of the group horseshoe).
    """
    # if x is inverse-Gamma(a, b), 1/x is Gamma(a, 1/b), and KL does not care how x is written
    return kl_lognormal_gamma(-mean, logvar, shape=shape, scale=1.0 / scale)
