"""Divergences and moments the slow way: series, quadrature and one basis weight at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import integrate, special, stats
from torch import Tensor


def kl_log_uniform_series(log_alpha: float) -> float:
    """½ Σ_k Poisson(k; 1/(2 alpha)) (ψ(½ + k) - ψ(½)).

    E log z² of a normal variable is a Poisson mixture of digammas (its square is a non-central χ²);
    what remains of the KL to 1/|z| is a constant, chosen so that the KL vanishes at infinite alpha.
    """
    rate = 0.5 * np.exp(-log_alpha)
    width = 12.0 * np.sqrt(rate) + 60.0
    k = np.arange(max(0, int(rate - width)), int(rate + width) + 1)
    weights = stats.poisson.pmf(k, rate)
    return float(0.5 * np.sum(weights * (special.digamma(0.5 + k) - special.digamma(0.5))))


def kl_lognormal_by_quadrature(
    mean: float, logvar: float, log_density: Callable[[float], float]
) -> float:
    """KL(LogNormal ‖ p) integrated over t = log x; ``log_density`` is log p as a function of x."""
    sigma = float(np.exp(0.5 * logvar))

    def integrand(t: float) -> float:
        log_q = stats.norm.logpdf(t, mean, sigma)
        return float(np.exp(log_q) * (log_q - t - log_density(float(np.exp(t)))))

    value, _ = integrate.quad(
        integrand, mean - 12 * sigma, mean + 12 * sigma, epsabs=0, epsrel=1e-11, limit=400
    )
    return float(value)


def kl_normal(mean: NDArray[np.float64], logvar: NDArray[np.float64]) -> float:
    """KL to the standard normal from two expected log-densities."""
    variance = np.exp(logvar)
    negative_entropy = -0.5 * np.log(2 * np.pi * np.e * variance)
    cross = 0.5 * np.log(2 * np.pi) + 0.5 * (variance + mean**2)
    return float(np.sum(negative_entropy + cross))


def moments_by_basis(
    plain: Callable[[Tensor], Tensor], mean: Tensor, variance: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and variance of ``plain(weight)``, linear in its weight, from its response to each weight."""
    columns = []
    for i in range(mean.numel()):
        basis = torch.zeros_like(mean).flatten()
        basis[i] = 1.0
        columns.append(plain(basis.view_as(mean)))
    response = torch.stack(columns, dim=-1)
    return response @ mean.flatten(), response**2 @ variance.flatten()
