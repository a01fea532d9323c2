"""Monte-Carlo prediction."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from epigram.errors import ConfigError, UnsupportedModelError
from epigram.layers import VariationalLinear, predict
from epigram.priors import GroupJeffreys


def _net(**settings: float) -> nn.Sequential:
    first = VariationalLinear(4, 6, scale=GroupJeffreys(4), **settings)
    return nn.Sequential(first, nn.Dropout(0.5), nn.ReLU(), VariationalLinear(6, 3, **settings))


def test_values_have_the_mean_and_spread_of_a_linear_layer():
    layer = VariationalLinear(4, 3, logvar_init=-1.0, dtype=torch.float64)
    x, draws = torch.randn(2, 4, dtype=torch.float64), 4000
    got = predict(layer, x, draws, output="values")
    with torch.no_grad():
        mean = x @ layer.weight_mean.T + layer.bias_mean
        variance = (x**2).sum(1, keepdim=True) * torch.exp(torch.tensor(-1.0)) + torch.exp(
            torch.tensor(-1.0)
        )
    std = variance.sqrt().expand_as(mean)
    # five standard errors of a mean and of a standard deviation
    assert ((got.mean - mean).abs() < 5 * std / draws**0.5).all()
    assert ((got.std - std).abs() < 5 * std / (2 * draws) ** 0.5).all()
    assert got.entropy_nats is None


def test_logits_become_probabilities_and_uncertainties():
    got = predict(_net(logvar_init=0.0), torch.randn(5, 4), 20)
    assert torch.allclose(got.mean.sum(1), torch.ones(5))
    expected = -(got.mean * got.mean.log()).sum(1)
    assert torch.allclose(got.entropy_nats, expected, atol=1e-6)
    assert (got.mutual_information_nats > 0).all()
    assert (got.mutual_information_nats < got.entropy_nats).all()
    assert got.samples == 20


def test_a_confident_posterior_predicts_its_mean():
    net = nn.Sequential(VariationalLinear(4, 3, logvar_init=-40.0, variance_eps=1e-20))
    x = torch.randn(5, 4)
    got = predict(net, x, 4)
    assert torch.allclose(got.mean, net.eval()(x).softmax(1), atol=1e-6)
    assert got.std.max() < 1e-6


def test_a_seed_repeats_and_leaves_the_global_generator_alone():
    net, x = _net(), torch.randn(5, 4)
    state = torch.get_rng_state()
    a, b = predict(net, x, 3, seed=1), predict(net, x, 3, seed=1)
    assert torch.equal(a.mean, b.mean)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(a.mean, predict(net, x, 3, seed=2).mean)


def test_modes_and_flags_are_restored_also_after_an_exception():
    net = _net()
    net[1].eval()
    before = [module.training for module in net.modules()]
    predict(net, torch.randn(5, 4), 2)
    with pytest.raises(RuntimeError):
        predict(net, torch.randn(5, 7), 2)
    assert [module.training for module in net.modules()] == before
    assert not net[0].sampling
    assert net[0].scale.shared_draw is None


def test_no_samples_are_refused():
    with pytest.raises(ConfigError, match="samples=0"):
        predict(_net(), torch.randn(5, 4), 0)


def test_a_plain_network_is_refused():
    with pytest.raises(UnsupportedModelError, match="nothing to sample"):
        predict(nn.Linear(4, 3), torch.randn(5, 4))
