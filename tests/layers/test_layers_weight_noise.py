"""Layers that draw their weights, once a call, instead of every example's outputs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from epigram.config import from_dict
from epigram.convert import PosteriorSettings, bayesianize
from epigram.errors import ConfigError
from epigram.layers import VariationalConv2d, VariationalConvTranspose1d, VariationalLinear
from epigram.layers.base import VariationalLayer
from epigram.priors import GroupJeffreys

_LAYERS = {
    "linear": (VariationalLinear(5, 3, logvar_init=-1.0), (4, 5)),
    "conv2d": (VariationalConv2d(4, 2, 3, padding=1, groups=2, logvar_init=-1.0), (2, 4, 5, 5)),
    "transposed": (VariationalConvTranspose1d(3, 2, 3, bias=False, logvar_init=-1.0), (2, 3, 6)),
}


@pytest.mark.parametrize("name", _LAYERS)
def test_every_output_has_the_moments_of_local_reparameterisation(name):
    layer, shape = _LAYERS[name]
    torch.manual_seed(0)
    x = torch.randn(shape)
    layer.noise = "weights"
    with torch.no_grad():
        drawn = torch.stack([layer(x) for _ in range(1000)])
        mean = layer.eval()(x)
        layer.train()
        layer.noise = "outputs"
        apart = torch.stack([layer(x) for _ in range(1000)])
    assert (drawn.mean(0) - mean).abs().max() < 5 * drawn.std(0).max() / 1000**0.5
    ratio = drawn.var(0) / apart.var(0)
    assert ratio.min() > 0.65 and ratio.max() < 1.5


def test_a_convolution_draws_one_function_for_all_examples_and_positions():
    layer = VariationalConv2d(2, 3, 3, logvar_init=-1.0)
    x = torch.ones(2, 2, 6, 6)
    layer.noise = "weights"
    drawn = layer(x)
    torch.testing.assert_close(drawn, drawn[:1, :, :1, :1].expand_as(drawn))
    layer.noise = "outputs"
    assert layer(x).std() > 0.1


def test_gradients_reach_means_and_variances_of_weight_and_bias():
    layer = VariationalConv2d(2, 3, 3, logvar_init=-1.0)
    layer.noise = "weights"
    layer(torch.randn(2, 2, 6, 6)).square().sum().backward()
    for parameter in layer.parameters():
        assert parameter.grad is not None and parameter.grad.abs().min() > 0


def test_only_the_convolutions_of_a_network_are_told():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2))
    x = torch.randn(2, 1, 5, 5)
    twin = bayesianize(network, x, settings=PosteriorSettings(convolution_noise="weights"))
    layers = [m for m in twin.modules() if isinstance(m, VariationalLayer)]
    assert [layer.noise for layer in layers] == ["weights", "outputs"]
    torch.testing.assert_close(twin.eval()(x), network(x))


@pytest.mark.parametrize("groups", [1, 2])
def test_a_scale_drawn_once_goes_into_the_weights(groups: int) -> None:
    torch.manual_seed(0)
    scale = GroupJeffreys(4, logvar_init=-1.0)
    layer = VariationalConv2d(4, 6, 3, groups=groups, padding=1, logvar_init=-2.0, scale=scale)
    layer.noise = "weights"
    x = torch.randn(1, 4, 5, 5)
    with torch.no_grad():
        apart = torch.stack([layer(x) for _ in range(3000)])
        scale.per_example = False
        drawn = torch.stack([layer(x) for _ in range(3000)])
        two = layer(torch.cat([x, x]))
    torch.testing.assert_close(two[0], two[1])  # the same z for both
    assert (drawn.mean(0) - apart.mean(0)).abs().max() < 8 * apart.std(0).max() / 3000**0.5
    ratio = drawn.var(0) / apart.var(0)
    assert ratio.min() > 0.8 and ratio.max() < 1.25
    layer(x).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in scale.parameters())


def test_scales_that_weights_are_drawn_with_are_drawn_once_for_all_their_readers() -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.Flatten(), nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)
    )  # fmt: skip
    x = torch.randn(6, 1, 5, 5)
    twin = bayesianize(network, x, settings=PosteriorSettings(convolution_noise="weights"))
    told = [scale.per_example for scale in twin.scales]
    assert sorted(told) == [False, True, True]
    alike = bayesianize(network, x)
    assert all(scale.per_example for scale in alike.scales)
    assert twin(x).shape == (6, 2)


def test_an_unknown_noise_is_refused():
    with pytest.raises(ConfigError, match=r"convolution_noise.*none"):
        from_dict(PosteriorSettings, {"convolution_noise": "none"})
