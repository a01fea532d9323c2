"""Local reparameterisation: sample what a layer puts out instead of its weights.

For independent normal weights the outputs of a linear map f are normal, with

    mean     = f(x;  weight_mean)     + bias_mean
    variance = f(x²; weight_variance) + bias_variance

(Kingma, Salimans, Welling 2015). For a convolution this is exact at each position, not jointly over
positions, which share weights: a known approximation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from epigram.maths.noise import looked_up_normal

LinearMap: TypeAlias = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(input, weight, bias or None) -> output, linear in input and in weight."""


class _SampleNormal(torch.autograd.Function):
    """Draws per example; the gradients are summed over examples."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, logvar: Tensor, noise: Tensor) -> Tensor:
        root = (0.5 * logvar).exp_()
        ctx.save_for_backward(root, noise)
        return torch.addcmul(mean, root, noise)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        root, noise = ctx.saved_tensors
        return grad.sum(0), (grad * noise).sum(0).mul_(root).mul_(0.5), None


def sample_normal(
    mean: Float[Tensor, " units"],
    logvar: Float[Tensor, " units"],
    noise: Float[Tensor, "batch units"],
) -> Float[Tensor, "batch units"]:
    """Mean + exp(logvar / 2) · noise, a reparameterised draw per example. First derivatives only.

    Args:
        mean: the units' means.
        logvar: the units' log-variances.
        noise: standard normal.
    """
    drawn: Tensor = _SampleNormal.apply(mean, logvar, noise)
    return drawn


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


def standard_normal_like(
    like: Float[Tensor, "*shape"], *, generator: torch.Generator | None = None
) -> Float[Tensor, "*shape"]:
    """Standard normal noise in the shape, type and order in memory of ``like``.

    For contiguous fp32 it is ``torch.randn_like``. Elsewhere torch draws one number at a time: with
    channels last that takes five times as long, in bf16 half as long again. So the numbers are drawn in
    the order they lie in memory, in fp32, and then rounded; on the CPU numbers of 16 bits are looked up.

    Args:
        like: what the noise is for.
        generator: None = torch's own.
    """
    strides = like.stride()
    dense = like.is_contiguous() or like.is_contiguous(memory_format=torch.channels_last)
    narrow = like.dtype in (torch.float16, torch.bfloat16)
    if narrow and like.device.type == "cpu":
        drawn = looked_up_normal(like.numel(), like.dtype, generator=generator)
    else:
        dtype = torch.float32 if narrow else like.dtype
        drawn = torch.randn(like.numel(), generator=generator, dtype=dtype, device=like.device)
    noise = drawn.as_strided(like.shape, strides) if dense else drawn.view(like.shape)
    return noise.to(like.dtype)


def sample_weights(
    mean: Float[Tensor, "*shape"], logvar: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """One draw of normal weights, mean + exp(logvar / 2) · noise, for a whole batch.

    The outputs' noise is then the same function of all examples, and joint over the positions of a
    convolution, as the posterior has it; per batch it costs one linear map instead of two.

    Args:
        mean: the weights' means.
        logvar: their log-variances.

    References:
        Kingma, Welling 2014, "Auto-Encoding Variational Bayes" (the reparameterised draw); Blundell et al. 2015,
            "Weight Uncertainty in Neural Networks" (of weights).
    """
    return torch.addcmul(mean, (0.5 * logvar).exp(), standard_normal_like(mean))


class _SampleOutputs(torch.autograd.Function):
    """Root, product and slope in place; backward is one product with the slope."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, variance: Tensor, noise: Tensor) -> Tensor:
        root = variance.detach().sqrt_()
        mean.addcmul_(root, noise)
        ctx.mark_dirty(mean)
        ctx.save_for_backward(noise.div_(root))
        return mean

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (twice_slope,) = ctx.saved_tensors
        wants_variance = ctx.needs_input_grad[1]
        return grad, (grad * twice_slope).mul_(0.5) if wants_variance else None, None


def sample_outputs(
    mean: Float[Tensor, "*shape"],
    variance: Float[Tensor, "*shape"],
    noise: Float[Tensor, "*shape"],
) -> Float[Tensor, "*shape"]:
    """Mean + sqrt(variance) · noise; all three arguments are used up, their memory is reused.

    A convolution's outputs are large, so passes over them and fresh memory for them are what
    sampling costs beyond its two products. First derivatives only.

    Args:
        mean: the outputs' means; becomes the result.
        variance: the outputs' variances, strictly positive (eps is already in them).
        noise: standard normal.
    """
    outputs: Tensor = _SampleOutputs.apply(mean, variance, noise)
    return outputs
