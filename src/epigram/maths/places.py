"""One output of a convolution of x²: a product over channels, then a sum over the places of the filter.

    x [N, I, space] ──▶ x² ──▶ product with [K, I] ──▶ K maps ──▶ shifted, strided, added ──▶ [N, 1, space]

Kernels for convolutions compute outputs in blocks, 16 of them for the price of one; with 24 outputs in all,
one alone costs half as much as all, and its gradients more. One product and K additions of single maps do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from epigram.maths.kl import at_least_fp32


@dataclass(frozen=True)
class Geometry:
    """Of a convolution, one number for each axis of space."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    def size(self, space: tuple[int, ...]) -> tuple[int, ...]:
        """The output's size."""
        axes = zip(space, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in axes)

    def places(
        self, space: tuple[int, ...]
    ) -> Iterator[tuple[int, tuple[slice, ...], tuple[slice, ...]]]:
        """For each place of the filter that sees anything: its number, the outputs, and what they see there."""
        axes = zip(
            space,
            self.size(space),
            self.kernel,
            self.stride,
            self.padding,
            self.dilation,
            strict=True,
        )
        seen = [
            [_seen(n, outputs, s, place * d - p) for place in range(k)]
            for n, outputs, k, s, p, d in axes
        ]
        for number, along in enumerate(product(*seen)):
            if all(outputs.stop > outputs.start for outputs, _ in along):
                yield number, tuple(o for o, _ in along), tuple(i for _, i in along)


def _seen(inputs: int, outputs: int, stride: int, offset: int) -> tuple[slice, slice]:
    """Output o sees input ``stride · o + offset``, where there is one."""
    first = max(0, -(offset // stride))
    last = min(outputs, (inputs - 1 - offset) // stride + 1)
    begin = first * stride + offset
    return slice(first, last), slice(begin, begin + (last - first - 1) * stride + 1, stride)


class _SquaresByPlaces(torch.autograd.Function):
    """Keeps x and x²; the gradient of x² becomes that of x in its own memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factors: Tensor, geometry: Geometry) -> Tensor:
        squares = x.square()
        weight = factors.to(x.dtype).flatten(2)[0]
        # additions of slices in 16 bits are ten times as slow, and would round K times
        maps = at_least_fp32(_maps(torch.matmul(weight.t(), _flat(squares)), x))
        space = tuple(x.shape[2:])
        summed = maps.new_zeros((x.shape[0], *geometry.size(space)))
        for place, outputs, inputs in geometry.places(space):
            summed[:, *outputs] += maps[place][:, *inputs]
        ctx.save_for_backward(x, squares, weight)
        ctx.geometry, ctx.shape, ctx.dtype = geometry, factors.shape, factors.dtype
        return summed.unsqueeze(1).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, squares, weight = ctx.saved_tensors
        flat, grad = _flat(squares), grad.squeeze(1)
        spread = x.new_zeros((*flat.shape[:-2], weight.shape[1], flat.shape[-1]))
        maps = _maps(spread, x)
        for place, outputs, inputs in ctx.geometry.places(tuple(x.shape[2:])):
            maps[place][:, *inputs] = grad[:, *outputs]
        to_x = to_factors = None
        if ctx.needs_input_grad[1]:
            to_weight = torch.matmul(spread, flat.transpose(-1, -2))
            to_weight = to_weight.view(-1, *weight.t().shape).sum(0).t()
            to_factors = to_weight.reshape(ctx.shape).to(ctx.dtype)
        if ctx.needs_input_grad[0]:
            to_x = _unflat(spread, 2.0 * weight, x).mul_(x)
        return to_x, to_factors, None


def _channels_last(x: Tensor) -> bool:
    return x.movedim(1, -1).is_contiguous()


def _flat(x: Tensor) -> Tensor:
    """To [batch, channels, positions]; with channels last to [channels, positions of all examples]."""
    if _channels_last(x):
        return x.movedim(1, -1).reshape(-1, x.shape[1]).t()
    return x.flatten(2)


def _unflat(maps: Tensor, weight: Tensor, like: Tensor) -> Tensor:
    """``weight`` times flat maps, in the shape and the order in memory of ``like``."""
    if _channels_last(like):
        rows = torch.mm(maps.t(), weight.t())
        return rows.view(like.movedim(1, -1).shape).movedim(-1, 1)
    return torch.matmul(weight, maps).view(like.shape)


def _maps(flat: Tensor, like: Tensor) -> Tensor:
    """Flat maps as [places, examples, space]."""
    if _channels_last(like):
        return flat.view(-1, like.shape[0], *like.shape[2:])
    return flat.view(like.shape[0], -1, *like.shape[2:]).transpose(0, 1)


def squares_by_places(
    x: Float[Tensor, "batch in *space"], factors: Float[Tensor, "1 in *kernel"], geometry: Geometry
) -> Float[Tensor, "batch 1 *out"]:
    """The convolution of ``x.square()`` with one filter, ``factors``, zeros around x. First derivatives only.

    Args:
        x: the input; not in groups.
        factors: the filter; used in the type of ``x``.
        geometry: of the convolution.
    """
    summed: Tensor = _SquaresByPlaces.apply(x, factors, geometry)
    return summed
