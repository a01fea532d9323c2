"""A linear layer and a 1x1 convolution on a 1x1 map are the same function of the same parameters."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from epigram.layers import (
    VariationalConv1d,
    VariationalConv2d,
    VariationalConv3d,
    VariationalConvTranspose2d,
    VariationalLayer,
    VariationalLinear,
)
from epigram.priors import GroupHorseshoe, GroupJeffreys, GroupScale


def _perturbed(scale: GroupScale) -> GroupScale:
    with torch.no_grad():
        for parameter in scale.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return scale


def _values(layer: VariationalLayer, x: Tensor, direction: Tensor) -> dict[str, Tensor]:
    """Output, KL and all gradients, flattened, of one training pass with fixed noise."""
    x = x.clone().requires_grad_()
    torch.manual_seed(17)
    y = layer(x)
    kl = layer.kl_nats()
    ((y.flatten() * direction).sum() + 0.3 * kl).backward()
    found = {"output": y.detach().flatten(), "kl": kl.detach(), "input": x.grad.flatten()}
    for name, parameter in layer.named_parameters():
        grad = parameter.grad
        if name.startswith("weight") and layer.input_axis == 0:
            grad = grad.transpose(0, 1)
        found[name] = grad.flatten()
    return found


@pytest.mark.parametrize("prior", [GroupJeffreys, GroupHorseshoe])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("kind", "space"),
    [
        (VariationalConv1d, (1,)),
        (VariationalConv2d, (1, 1)),
        (VariationalConv3d, (1, 1, 1)),
        (VariationalConvTranspose2d, (1, 1)),
    ],
)
def test_value_gradient_and_kl_agree(kind, space, bias, prior):
    scale = _perturbed(prior(6, dtype=torch.float64))
    linear = VariationalLinear(6, 4, bias, scale=scale, logvar_init=-2.0, dtype=torch.float64)
    conv = kind(6, 4, 1, bias=bias, scale=copy.deepcopy(scale), dtype=torch.float64)
    with torch.no_grad():
        for name, parameter in linear.named_parameters():
            if not name.startswith("scale"):
                parameter.add_(0.1 * torch.randn_like(parameter))
                turned = name.startswith("weight") and conv.input_axis == 0
                target = conv.get_parameter(name)
                target.copy_((parameter.t() if turned else parameter).reshape(target.shape))
    x, direction = torch.randn(5, 6, dtype=torch.float64), torch.randn(20, dtype=torch.float64)
    ours = _values(linear, x, direction)
    theirs = _values(conv, x.reshape(5, 6, *space), direction)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        gap = (value - theirs[name]).norm() / value.norm()
        assert gap < 1e-12, name
    folded = [layer.weight.detach().reshape(layer.weight.shape[:2]) for layer in (linear, conv)]
    if conv.input_axis == 0:
        folded[1] = folded[1].t()
    assert torch.allclose(*folded, rtol=1e-12, atol=0)
