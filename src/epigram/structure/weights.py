"""Weights for trials: drawn at random, each in a place where a network surely has numbers if it has any.

Most networks put out numbers whatever their weights are. One that takes the root, the logarithm or a power
of a parameter wants its signs, and another (``acos``) hardly more than the values it was given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import torch
from torch.nn.modules.batchnorm import _NormBase

if TYPE_CHECKING:
    from torch import Tensor, nn

Place: TypeAlias = Literal["anywhere", "of its sign", "near"]
"""Where a weight is drawn: anywhere; with the sign it has; within some tenths of what it is."""

PLACES: tuple[Place, ...] = get_args(Place)
"""The most random one first."""

_NEAR = 0.1


def draw_weights_(network: nn.Module, place: Place, generator: torch.Generator) -> None:
    """Give a network random weights, and numbers in place of zeros among its buffers, in place."""
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.is_floating_point():
                noise = torch.randn(parameter.shape, generator=generator)
                drawn = _scaled(noise, name).to(parameter)
                parameter.data.copy_(_placed(drawn, noise.to(parameter), parameter.data, place))
        for buffer in module.buffers(recurse=False):
            _draw_zeros_(buffer, generator)
        _draw_statistics_(module, generator)


def _scaled(noise: Tensor, name: str) -> Tensor:
    """Weights of usual sizes: a matrix keeps the size of what it reads, a vector is a bias or a factor."""
    if noise.dim() > 1:
        size: float = (2.0 * noise.shape[0] / max(1, noise.numel())) ** 0.5
        return noise * size
    return 0.3 * noise + (1.0 if name == "weight" else 0.0)


def _placed(drawn: Tensor, noise: Tensor, given: Tensor, place: Place) -> Tensor:
    """What is drawn, brought to its place; beside a zero that is given, for zeros hide what a removal does."""
    if place == "anywhere":
        return drawn
    if place == "of its sign":
        return torch.where(given < 0, -drawn.abs(), drawn.abs())
    return torch.where(given == 0, _NEAR * drawn, given * (1.0 + _NEAR * noise))


def _draw_zeros_(buffer: Tensor, generator: torch.Generator) -> None:
    """What is nothing yet (a coefficient that grows in training, a running mean) would hide what it is a factor of."""
    if buffer.is_floating_point() and not bool(buffer.any()):
        buffer.copy_(0.3 * torch.randn(buffer.shape, generator=generator).abs())


def _draw_statistics_(module: nn.Module, generator: torch.Generator) -> None:
    if not isinstance(module, _NormBase) or module.running_mean is None:
        return
    module.running_mean.copy_(0.3 * torch.randn(module.running_mean.shape, generator=generator))
    if module.running_var is not None:
        spread = torch.rand(module.running_var.shape, generator=generator)
        module.running_var.copy_(0.5 + spread)
