"""Variances that are products: var[o, i] = exp(outputs[o] + inputs[i]), a matrix of rank one.

    variance of an output = exp outputs[o] · Σ_i x_i² exp inputs[i]  +  bias_variance[o]
                                             └── shared by all outputs

so the sum over inputs, which costs as much as the mean's where each weight has a variance of its own, is
needed for one output only. ``i`` runs over whatever an output adds up: inputs, or channels and places of
a filter.

References:
    Swiatkowski et al. 2020, "The k-tied Normal Distribution", with k = 1: in networks trained with a
        variance for each weight, the matrices of standard deviations are nearly of rank one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from epigram.maths.kl import at_least_fp32


class _KlTiedNormal(torch.autograd.Function):
    """Any number of layers at once: all means, then all outputs' parts, then all inputs' parts.

    The parts are short, so they are worked with in fp64: Σ var - 1 keeps its digits next to 0.
    """

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Tensor:
        means, outputs, inputs = _thirds(tensors)
        variances = [part.double().exp() for part in (*outputs, *inputs)]
        ctx.save_for_backward(*means, *variances)
        ctx.dtypes = [part.dtype for part in (*outputs, *inputs)]
        total: Tensor = means[0].new_zeros((), dtype=torch.float64)
        for i, mean in enumerate(means):
            rows, columns = outputs[i].double(), inputs[i].double()
            flat = mean.reshape(-1)
            total += variances[i].sum() * variances[len(means) + i].sum() - mean.numel()
            total -= rows.sum() * columns.numel() + columns.sum() * rows.numel()
            total += torch.dot(flat, flat)
        return total.mul_(0.5).to(means[0].dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        means, outputs, inputs = _thirds(ctx.saved_tensors)
        wanted = _thirds(ctx.needs_input_grad)
        half = 0.5 * grad.double()

        def to_parts(parts: Sequence[Tensor], others: Sequence[Tensor]) -> list[Tensor]:
            pairs = zip(parts, others, strict=True)
            return [half * (a * b.sum() - b.numel()) for a, b in pairs]

        to_means = [m * grad if w else None for m, w in zip(means, wanted[0], strict=True)]
        to_logvars = [*to_parts(outputs, inputs), *to_parts(inputs, outputs)]
        told = zip(to_logvars, ctx.dtypes, (*wanted[1], *wanted[2]), strict=True)
        return (*to_means, *(g.to(dtype) if w else None for g, dtype, w in told))


def _thirds(items: Sequence[Any]) -> tuple[Any, Any, Any]:
    third = len(items) // 3
    return items[:third], items[third : 2 * third], items[2 * third :]


def sum_kl_tied_normal(
    means: Sequence[Tensor], outputs: Sequence[Tensor], inputs: Sequence[Tensor]
) -> Float[Tensor, ""]:
    """The sum of ``kl_standard_normal`` over tensors with tied variances, as one operation, nats.

    ½ [(Σ exp outputs)(Σ exp inputs) + Σ mean² - I Σ outputs - O Σ inputs - O·I] for O outputs' parts and
    I inputs' parts: only Σ mean² goes over the weights. First derivatives only.

    Args:
        means: posterior means, of any shapes; at least one.
        outputs: the log-variances' parts for outputs, in shapes that broadcast.
        inputs: their parts for inputs; ``outputs + inputs`` has the shape of the means.
    """
    with torch.autocast(means[0].device.type, enabled=False):
        wide = [at_least_fp32(tensor) for tensor in (*means, *outputs, *inputs)]
        kl: Tensor = _KlTiedNormal.apply(*wide)
        return kl


@torch.no_grad()
def clamp_sum_(outputs: Tensor, inputs: Tensor, low: float | None, high: float | None) -> None:
    """Bound every sum of an outputs' and an inputs' part, in place.

    What the smallest sum is short of ``low``, the smallest entries of both parts are raised by, each part
    in proportion to how far its entries are apart; the rest stays, and afterwards the smallest sum is
    ``low``, up to rounding. Likewise from above. How the sum is split into parts makes no difference.

    Args:
        outputs: one part.
        inputs: the other.
        low: None = no bound.
        high: likewise; at least ``low``.
    """
    ends = [part.aminmax() for part in (outputs, inputs)]
    first, last = ends[0].min + ends[1].min, ends[0].max + ends[1].max
    for part, (smallest, largest) in zip((outputs, inputs), ends, strict=True):
        share = torch.where(last > first, (largest - smallest) / (last - first), 0.5)
        if low is not None:
            lowest = smallest + share * (low - first)
            part.clamp_(min=torch.where(first < low, lowest, -math.inf))
        if high is not None:
            highest = largest - share * (last - high)
            part.clamp_(max=torch.where(last > high, highest, math.inf))


class _SampleTied(torch.autograd.Function):
    """``moments.sample_outputs`` with the variance worked out on the way, in the memory of its root."""

    @staticmethod
    def forward(
        ctx: Any,
        mean: Tensor,
        shared: Tensor,
        factor: Tensor,
        floor: Tensor,
        noise: Tensor,
        axis: int,
    ) -> Tensor:
        shared, factor, floor = (t.to(mean.dtype) for t in (shared, factor, floor))
        root = torch.empty_like(mean)
        if _side_by_side(root, shared, axis):
            rows = root.movedim(axis, -1).view(-1, factor.numel())
            torch.mm(_above_ones(shared).t(), torch.stack([factor, floor]), out=rows)
        else:
            grouped = partial(_grouped, groups=shared.shape[axis], axis=axis)
            torch.mul(grouped(_along(factor, axis)), grouped(shared), out=grouped(root))
            root.add_(_along(floor, axis))
        mean.addcmul_(root.sqrt_(), noise)
        ctx.mark_dirty(mean)
        ctx.axis = axis
        ctx.save_for_backward(noise.div_(root), shared, factor)
        return mean

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        twice_slope, shared, factor = ctx.saved_tensors
        slope = grad * twice_slope
        if _side_by_side(slope, shared, ctx.axis):
            found = _by_products(slope, shared, factor, ctx.axis)
        else:
            found = _by_sums(slope, shared, factor, ctx.axis)
        wanted = zip(found, ctx.needs_input_grad[1:4], strict=True)
        return grad, *(0.5 * each if want else None for each, want in wanted), None, None


def _side_by_side(x: Tensor, shared: Tensor, axis: int) -> bool:
    """Are the outputs of a position neighbours in memory, all of one group?"""
    return shared.shape[axis] == 1 and x.movedim(axis, -1).is_contiguous()


def _by_products(
    slope: Tensor, shared: Tensor, factor: Tensor, axis: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of shared, factor and floor where outputs lie side by side: two thin products."""
    rows = slope.movedim(axis, -1).reshape(-1, factor.numel())
    to_factor, to_floor = _above_ones(shared) @ rows
    return (rows @ factor).view(shared.shape), to_factor, to_floor


def _above_ones(shared: Tensor) -> Tensor:
    flat = shared.reshape(-1)
    return torch.stack([flat, torch.ones_like(flat)])


def _by_sums(
    slope: Tensor, shared: Tensor, factor: Tensor, axis: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The same for any order in memory and any number of groups; ``slope`` is used up."""
    grouped = partial(_grouped, groups=shared.shape[axis], axis=axis)
    others = [a for a in range(slope.dim()) if a != slope.dim() + axis]
    to_floor = slope.sum(others)
    to_shared = grouped(slope * _along(factor, axis)).sum(axis)
    grouped(slope).mul_(grouped(shared))
    return to_shared, slope.sum(others), to_floor


def _grouped(x: Tensor, *, groups: int, axis: int) -> Tensor:
    """The axis of outputs as an axis of groups and one of a group's outputs."""
    return torch.unflatten(x, axis, (groups, -1))


def _along(x: Tensor, axis: int) -> Tensor:
    """One number an output, along the axis of outputs."""
    return x.view(-1, *[1] * (-1 - axis))


def sample_tied_outputs(
    mean: Float[Tensor, "..."],
    shared: Float[Tensor, "..."],
    factor: Float[Tensor, " outputs"],
    floor: Float[Tensor, " outputs"],
    noise: Float[Tensor, "..."],
    *,
    axis: int = -1,
) -> Float[Tensor, "..."]:
    """Mean + sqrt(floor + factor · shared) · noise; ``mean`` and ``noise`` are used up.

    First derivatives only.

    Args:
        mean: the outputs' means; becomes the result.
        shared: Σ x² exp inputs, in the same shape with one entry for each group of outputs.
        factor: exp outputs.
        floor: what is added to each output's variance, strictly positive (eps is already in it).
        noise: standard normal.
        axis: the axis of outputs, counted from the end.
    """
    outputs: Tensor = _SampleTied.apply(mean, shared, factor, floor, noise, axis)
    return outputs
