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
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

LOG_SCALE_MIN = -3.0
"""At b = e^-3 a zero costs e^-10 nats: a million of them cost 8 bytes. A smaller b would buy nothing,
and its slope, 1/b, is what a symbol that does not fit is pulled with."""

LOG_SCALE_MAX = 8.0
"""At b = e^8 a symbol costs 12 or 13 bits; tensors that need more want a larger step."""


def held(log_scale: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """``log_scale`` within its range; beyond it, a gradient that leads back in is let through, and no other.

    With factors a scale is a sum, each part of which may be within bounds where the sum is not: a clamp's gradient is
    zero there, and the scale would stay where it is for good.
    """
    bound: Tensor = _Held.apply(log_scale)
    return bound


class _Held(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, log_scale: Tensor) -> Tensor:
        ctx.save_for_backward(log_scale)
        return log_scale.clamp(LOG_SCALE_MIN, LOG_SCALE_MAX)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (log_scale,) = ctx.saved_tensors
        outwards = ((log_scale < LOG_SCALE_MIN) & (grad > 0)) | (
            (log_scale > LOG_SCALE_MAX) & (grad < 0)
        )
        return grad.masked_fill(outwards, 0.0)


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
    log_weights: Float[Tensor, " components"] | Sequence[Float[Tensor, "..."]],
    log_scales: Sequence[Float[Tensor, "..."]],
    *,
    owner: Int64[Tensor, " symbols"] | None = None,
) -> Float[Tensor, "..."]:
    """-log2 of each symbol's mass under a mixture of Laplace distributions, bits.

    The gradient is written out (``_MixtureBits``): recorded operation by operation, it takes several
    times as long, and is what a step of a small network waits for.

    Args:
        symbols: in steps; any shape.
        log_weights: ln of the components' weights, which sum to 1; each broadcast against ``symbols``.
        log_scales: ln b per component, each broadcast against ``symbols``.
        owner: for each of a row of symbols the place of its own weights and scales, which are then
            rows too: many tensors in one pass.
    """
    parts = [
        part if owner is not None else part.expand(symbols.shape)
        for part in (*log_scales, *log_weights)
    ]
    bits: Tensor = _MixtureBits.apply(symbols, owner, *parts)
    return bits


class _MixtureBits(torch.autograd.Function):
    """Bits of symbols under log scales and log weights, with their derivatives.

    With a = |q|, s = 1/b, E = e^(-(1/2 - a) s), G = e^(-(1/2 + a) s) and the mass m of one component,

        a >= 1/2:   d ln m / da = -s                      d ln m / ds = 1 / (e^s - 1) - (a - 1/2)
        a <  1/2:   d ln m / da = -s (E - G) / 2m         d ln m / ds = ((1/2 - a) E + (1/2 + a) G) / 2m

    and a mixture weighs them by how likely each component is, given the symbol. Near zero
    m = (1 - e^(-s/2)) - 2 e^(-s/2) sinh²(a s / 2), which loses no digits however wide the scale.
    """

    @staticmethod
    def forward(ctx: Any, symbols: Tensor, owner: Tensor | None, *parts: Tensor) -> Tensor:
        count = len(parts) // 2
        distance = symbols.abs()
        inside = distance < 0.5
        near, beyond = distance.clamp_max(0.5), distance - 0.5

        def spread(of_owner: Tensor) -> Tensor:
            return of_owner if owner is None else of_owner.index_select(0, owner)

        logs, by_distance, by_scale = [], [], []
        for log_scale, log_weight in zip(parts[:count], parts[count:], strict=True):
            small = torch.exp(-log_scale)
            slope, half = spread(small), spread(torch.exp(-0.5 * small))
            first = spread(torch.log(-torch.expm1(-small)) - math.log(2.0) + log_weight)
            up = torch.exp(0.5 * slope * near)
            down = torch.reciprocal(up)
            mass = spread(-torch.expm1(-0.5 * small)) - 0.5 * half * (up - down).square()
            log_mass = torch.log(mass) + spread(log_weight)
            logs.append(torch.where(inside, log_mass, first - beyond * slope))
            weight = 0.5 * half / mass
            left, right = up.square() * weight, down.square() * weight
            by_distance.append(-slope * torch.where(inside, left - right, 1.0))
            inner = (0.5 - near) * left + (0.5 + near) * right
            outer = spread(torch.reciprocal(torch.expm1(small))) - beyond
            by_scale.append(-slope * torch.where(inside, inner, outer))
        total = torch.logsumexp(torch.stack(logs), dim=0)
        shares = [torch.exp(log - total) for log in logs]
        pulls = [share * d for share, d in zip(shares, by_distance, strict=True)]
        ctx.owner, ctx.sizes = owner, [part.shape for part in parts]
        ctx.save_for_backward(
            torch.stack(pulls).sum(0) * symbols.sign(),
            *(share * d for share, d in zip(shares, by_scale, strict=True)),
            *shares,
        )
        return -total / math.log(2.0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        scale = -gradients[0] / math.log(2.0)
        symbols, *parts = (scale * saved for saved in ctx.saved_tensors)
        if ctx.owner is not None:
            parts = [
                part.new_zeros(size).index_add_(0, ctx.owner, part)
                for part, size in zip(parts, ctx.sizes, strict=True)
            ]
        return symbols, None, *parts


def rounded(scaled: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The nearest whole number; its gradient is passed straight through."""
    return scaled + (torch.round(scaled) - scaled).detach()


def writable(step: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """The nearest step that the file can say, five significant bits; straight-through gradient."""
    mantissa, exponent = torch.frexp(step.detach())
    nearest = torch.ldexp(torch.round(mantissa * 32.0) / 32.0, exponent)
    return step + (nearest - step).detach()
