"""Layer and RMS normalisation over fewer units than their statistics count.

A unit that is zero everywhere still counts in a mean over all units. Where such units are removed, the
normalisation changes its class to one that holds the same tensors under the same names and goes on
dividing by the number there were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from epigram.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor


class NarrowLayerNorm(nn.LayerNorm):
    """``nn.LayerNorm`` beside units that are zero and not there. Not built by hand.

    Attributes:
        counted: over how many units mean and variance are taken.
    """

    counted: int

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis, shape ``[..., units]``."""
        mean = x.sum(-1, keepdim=True) / self.counted
        centred = x - mean
        missing = self.counted - x.shape[-1]
        square = centred.square().sum(-1, keepdim=True) + missing * mean.square()
        y = centred * torch.rsqrt(square / self.counted + self.eps)
        return affine(y, self.weight, self.bias)


class NarrowRMSNorm(nn.RMSNorm):
    """``nn.RMSNorm`` beside units that are zero and not there. Not built by hand.

    Attributes:
        counted: over how many units the mean square is taken.
    """

    counted: int

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis, shape ``[..., units]``."""
        eps = torch.finfo(x.dtype).eps if self.eps is None else self.eps
        square = x.square().sum(-1, keepdim=True) / self.counted
        return affine(x * torch.rsqrt(square + eps), self.weight)


def affine(x: Tensor, weight: Tensor | None, bias: Tensor | None = None) -> Tensor:
    """What a normalisation does last, where it has tensors for it."""
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def can_be_narrow(module: nn.Module) -> bool:
    """Is it one of torch's own, over one axis? A subclass may have a forward of its own."""
    known = type(module) in (nn.LayerNorm, nn.RMSNorm, NarrowLayerNorm, NarrowRMSNorm)
    return known and len(module.normalized_shape) == 1  # type: ignore[arg-type]


def fit_normalisation_(module: nn.LayerNorm | nn.RMSNorm, name: str) -> None:
    """Make ``normalized_shape`` agree with the weight; with fewer units the module changes its class.

    Raises:
        ConfigError: it normalises several axes, or its class may have a forward of its own.
    """
    shape = tuple(module.weight.shape)
    if shape == tuple(module.normalized_shape):
        return
    if not can_be_narrow(module):
        raise ConfigError(f"{name}: {type(module).__name__} keeps its units: it counts them itself")
    if not isinstance(module, NarrowLayerNorm | NarrowRMSNorm):
        narrow = NarrowLayerNorm if isinstance(module, nn.LayerNorm) else NarrowRMSNorm
        module.counted = int(module.normalized_shape[0])  # type: ignore[assignment]
        module.__class__ = narrow
    module.normalized_shape = shape
