"""Small facts about normal and log-normal variables, stable in the tails."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_SMALLEST_SQUARE = 1e-30  # keeps log(mean^2) finite at mean = 0, in fp32 too


def log_alpha(
    mean: Float[Tensor, "*shape"], logvar: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """Log of the noise-to-signal ratio, log(var / mean²), of a normal variable.

    A mean of exactly 0 gives a large finite value (as if ``|mean|`` were 1e-15) with gradient 0.

    Args:
        mean: the variable's mean.
        logvar: the log of its variance.

    References:
        Molchanov, Ashukha, Vetrov 2017, "Variational Dropout Sparsifies Deep Neural Networks", §3.

    Example:
        >>> log_alpha(torch.tensor([1.0]), torch.tensor([-2.0]))
        tensor([-2.])
    """
    return logvar - torch.log(mean.square() + _SMALLEST_SQUARE)


def log_alpha_slope_in_mean(mean: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Derivative of ``log_alpha`` in the mean: -2 / mean, and 0 at a mean of exactly 0."""
    return -2.0 * mean / (mean.square() + _SMALLEST_SQUARE)


def lognormal_mean(
    log_mean: Float[Tensor, "*shape"], log_variance: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """E z for log z ~ N(log_mean, log_variance): exp(mean + variance/2)."""
    return torch.exp(log_mean + 0.5 * log_variance)


def lognormal_log_mode(
    log_mean: Float[Tensor, "*shape"], log_variance: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """Log of the mode of z for log z ~ N(log_mean, log_variance): mean - variance."""
    return log_mean - log_variance


def lognormal_second_moment(
    log_mean: Float[Tensor, "*shape"], log_variance: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """E z² for log z ~ N(log_mean, log_variance): exp(2 mean + 2 variance)."""
    return torch.exp(2.0 * (log_mean + log_variance))
