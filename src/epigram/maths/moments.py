"""Local reparameterisation: sample what a layer puts out instead of its weights.

For independent normal weights the outputs of a linear map f are normal, with

    mean     = f(x;  weight_mean)     + bias_mean
    variance = f(x²; weight_variance) + bias_variance

(Kingma, Salimans, Welling 2015). For a convolution this is exact at each position, not jointly over
positions, which share weights: a known approximation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

LinearMap: TypeAlias = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(input, weight, bias or None) -> output, linear in input and in weight."""


def sample_normal(
    mean: Float[Tensor, "*#shape"],
    logvar: Float[Tensor, "*#shape"],
    noise: Float[Tensor, "*#shape"],
) -> Float[Tensor, "..."]:
    """Mean + exp(logvar / 2) · noise: a reparameterised draw; shapes broadcast."""
    return torch.addcmul(mean, torch.exp(0.5 * logvar), noise)


def output_moments(
    apply: LinearMap,
    x: Float[Tensor, "..."],
    weight_mean: Float[Tensor, "..."],
    weight_variance: Float[Tensor, "..."],
    bias_mean: Float[Tensor, " out"] | None,
    bias_variance: Float[Tensor, " out"] | None,
) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """Mean and variance of ``apply(x, weight, bias)`` under independent normal weights.

    Args:
        apply: the linear map; padding it does must be with zeros (pad ``x`` beforehand otherwise:
            padding by copies of ``x`` commutes with squaring).
        x: the input, already multiplied by the scales' draws.
        weight_mean: means of the weights.
        weight_variance: their variances, same shape.
        bias_mean: means of the bias, or None.
        bias_variance: its variances plus whatever shall be added to every output's variance.

    References:
        Kingma, Salimans, Welling 2015, "Variational Dropout and the
            Local Reparameterization Trick".
    """
    mean = apply(x, weight_mean, bias_mean)
    variance = apply(x.square(), weight_variance, bias_variance)
    return mean, variance


def sample_outputs(
    mean: Float[Tensor, "*shape"],
    variance: Float[Tensor, "*shape"],
    noise: Float[Tensor, "*shape"],
) -> Float[Tensor, "*shape"]:
    """Mean + sqrt(variance) · noise, where ``variance`` already contains its eps and is consumed.

    Args:
        mean: the outputs' means.
        variance: the outputs' variances, strictly positive; overwritten with their roots.
        noise: standard normal.
    """
    return torch.addcmul(mean, variance.sqrt_(), noise)
