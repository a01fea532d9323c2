"""What the posterior says about each tensor of the plain network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from epigram.convert.readers import Reader, variational_readers

FloatArray = NDArray[np.floating[Any]]

_LEAST_PRECISION = 1e-4
"""Of the likelihood, in units of the prior's: what is below counts as knowing nothing."""


@dataclass(frozen=True, eq=False)
class TensorPosterior:
    """One tensor's posterior, in the plain network's shape; dead positions are zero throughout.

    Attributes:
        mean: E[w] = E z · weight_mean, what the plain network has.
        likelihood_std: how finely the data ask for the weight, E z · (1/var - 1)^-½: the posterior's
            precision given z is that of the likelihood plus the prior's, and only the likelihood is
            hurt by rounding. A weight the data say nothing about has a large one, however small z is.
        marginal_variance: of w with z random too, as in the paper's bit precisions.
    """

    mean: FloatArray
    likelihood_std: FloatArray
    marginal_variance: FloatArray


@torch.no_grad()
def posterior_of(network: nn.Module) -> dict[str, TensorPosterior]:
    """Plain tensor name -> its posterior, for every variational layer of a network."""
    found: dict[str, TensorPosterior] = {}
    for reader in variational_readers(network):
        found.update(_layer(reader))
    return found


def _layer(reader: Reader) -> dict[str, TensorPosterior]:
    layer, gathered = reader.layer, reader.gathered
    first, second = layer.scale_moments()
    variance = layer.weight_log_variance().exp()
    mean = layer.weight_mean * first
    # E z² (var + mean²) - (E z · mean)²
    marginal = second * (variance + layer.weight_mean.square()) - mean.square()
    tensors = (mean, first.abs() * likelihood_std(variance), marginal.clamp_min(0.0))
    if gathered is not None:
        tensors = tuple(gathered.spread(t) for t in tensors)  # type: ignore[assignment]
    found = {reader.weight: TensorPosterior(*(t.float().cpu().numpy() for t in tensors))}
    if layer.bias_mean is not None and layer.bias_logvar is not None:
        variance = layer.bias_logvar.exp()
        parts = (layer.bias_mean, likelihood_std(variance), variance)
        found[reader.bias] = TensorPosterior(*(t.float().cpu().numpy() for t in parts))
    return found


def likelihood_std(variance: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Standard deviation of the likelihood's factor in a posterior of this variance, prior N(0, 1)."""
    return (variance.reciprocal() - 1.0).clamp_min(_LEAST_PRECISION).rsqrt()
