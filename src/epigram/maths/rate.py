"""Code lengths of integer symbols under proper distributions, integrated over the bin of each symbol.

A symbol q stands for the bin [q - 1/2, q + 1/2]. Its mass under a zero-centred Laplace distribution of
scale b (in steps) is

    |q| >= 1/2:   e^(-(|q| - 1/2) / b) · (1 - e^(-1/b)) / 2
    |q| <  1/2:   1 - (e^((|q| - 1/2) / b) + e^(-(|q| + 1/2) / b)) / 2

Real-valued q (a symbol plus noise) have a mass too, which is what makes the rate differentiable
(Ballé, Laparra, Simoncelli 2017). Everything is computed as a logarithm: with ln b in the range below no
term overflows, however far out the symbol is, and its slope is at most 1/b.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

LOG_SCALE_MIN = -3.0
"""At b = e^-3 a zero costs e^-10 nats: a million of them cost 8 bytes. A smaller b would buy nothing,
and its slope, 1/b, is what a symbol that does not fit is pulled with."""

LOG_SCALE_MAX = 8.0
"""At b = e^8 a symbol costs 12 or 13 bits; tensors that need more want a larger step."""


def laplace_bin_log_mass(
    symbols: Float[Tensor, "..."], log_scale: Float[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """Logarithm of the mass of each symbol's bin, nats.

    Args:
        symbols: in steps, whole numbers or not; any shape.
        log_scale: ln b, b in steps; broadcast against ``symbols``. Finite.
    """
    slope = torch.exp(-log_scale)
    distance = symbols.abs()
    beyond = (distance - 0.5).clamp_min(0.0)
    outer = -beyond * slope + torch.log(-torch.expm1(-slope)) - math.log(2.0)
    near = distance.clamp_max(0.5)
    left = torch.expm1((near - 0.5) * slope) + torch.expm1(-(near + 0.5) * slope)
    inner = torch.log(-0.5 * left)
    return torch.where(distance < 0.5, inner, outer)


def mixture_bits(
    symbols: Float[Tensor, "..."],
    log_weights: Float[Tensor, " components"],
    log_scales: Sequence[Float[Tensor, "..."]],
) -> Float[Tensor, "..."]:
    """-log2 of each symbol's mass under a mixture of Laplace distributions, bits.

    Args:
        symbols: in steps; any shape.
        log_weights: ln of the components' weights, which sum to 1.
        log_scales: ln b per component, each broadcast against ``symbols``.
    """
    masses = [
        weight + laplace_bin_log_mass(symbols, scale)
        for weight, scale in zip(log_weights, log_scales, strict=True)
    ]
    return -torch.logsumexp(torch.stack(masses), dim=0) / math.log(2.0)


def rounded(scaled: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The nearest whole number; its gradient is passed straight through."""
    return scaled + (torch.round(scaled) - scaled).detach()


def writable(step: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """The nearest step that the file can say, five significant bits; straight-through gradient."""
    mantissa, exponent = torch.frexp(step.detach())
    nearest = torch.ldexp(torch.round(mantissa * 32.0) / 32.0, exponent)
    return step + (nearest - step).detach()
