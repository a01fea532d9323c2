"""A twin with tied variances is the twin that has these variances, weight by weight."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from tests.convert.convert_masks import keep_some, random_scales_
from tests.convert.convert_networks import NETWORKS, made

from epigram.config import from_dict
from epigram.convert import PosteriorSettings, Twin, bayesianize
from epigram.errors import ConfigError
from epigram.layers import variational_layers
from epigram.train import slice_optimizer_state_

TIED = PosteriorSettings(variances="tied")


def _pair(name: str) -> tuple[Twin, Twin, torch.Tensor]:
    """A tied twin, and one with a log-variance for each weight that says the same."""
    network, x = made(name)
    network, x = network.double(), x.double()
    tied, each = bayesianize(network, x, settings=TIED), bayesianize(network, x)
    random_scales_(tied)
    for name_, scale in zip(tied.names, tied.scales, strict=True):
        each.scale(name_).load_state_dict(scale.state_dict())
    with torch.no_grad():
        for parameter_name, parameter in tied.named_parameters():
            if parameter_name.endswith("_logvar") and "weight" in parameter_name:
                parameter.add_(torch.randn_like(parameter))
    for ours, theirs in zip(variational_layers(tied), variational_layers(each), strict=True):
        theirs.weight_logvar.data = ours.weight_log_variance().detach().clone()
    return tied.train(), each.train(), x


def _assert_alike(tied: Twin, each: Twin, x: torch.Tensor) -> None:
    """Samples, KL, gradients and what is read off the posterior."""
    losses = []
    for twin in (tied, each):
        twin.zero_grad()
        torch.manual_seed(7)
        losses.append(twin(x).square().sum() + 0.1 * twin.kl_nats())
        losses[-1].backward()
    torch.testing.assert_close(*losses, rtol=1e-10, atol=1e-10)
    for ours, theirs in zip(variational_layers(tied), variational_layers(each), strict=True):
        torch.testing.assert_close(
            ours.weight_mean.grad, theirs.weight_mean.grad, rtol=1e-8, atol=1e-9
        )
        for part in ours.parameters_of("weight")[1:]:
            expected = theirs.weight_logvar.grad.sum_to_size(part.shape)
            torch.testing.assert_close(part.grad, expected, rtol=1e-8, atol=1e-8)
    found, expected = tied.posterior(), each.posterior()
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        np.testing.assert_allclose(
            tensor.marginal_variance, expected[name].marginal_variance, rtol=1e-6
        )
        np.testing.assert_allclose(tensor.likelihood_std, expected[name].likelihood_std, rtol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_it_draws_costs_and_shrinks_as_the_full_one_does(name: str) -> None:
    tied, each, x = _pair(name)
    assert tied.effective_parameters() == each.effective_parameters()
    _assert_alike(tied, each, x)
    rng = np.random.default_rng(0)
    for share in (0.7, 0.6):
        keep = keep_some(tied, rng, share)
        tied.shrink_(keep)
        each.shrink_(keep)
        _assert_alike(tied, each, x)


@pytest.mark.parametrize("name", ["lenet-5", "grouped", "depthwise"])
def test_parts_and_their_optimiser_state_are_cut_together(name: str) -> None:
    tied, _, x = _pair(name)
    optimizer = torch.optim.Adam(tied.parameters(), lr=1e-2)
    (tied(x).square().mean() + 1e-3 * tied.kl_nats()).backward()
    optimizer.step()
    before = {
        id(p): (p.detach().clone(), optimizer.state[p]["exp_avg"].clone())
        for p in tied.parameters()
    }
    cuts = tied.shrink_(keep_some(tied, np.random.default_rng(0), 0.5))
    for cut in cuts:
        slice_optimizer_state_(optimizer, cut.parameter, cut.axis, cut.index)
    cut_parts = 0
    for parameter_name, parameter in tied.named_parameters():
        value, average = before[id(parameter)]
        for cut in (c for c in cuts if c.parameter is parameter):
            value = value.index_select(cut.axis, cut.index)
            average = average.index_select(cut.axis, cut.index)
            cut_parts += parameter_name.endswith(("_output_logvar", "_input_logvar"))
        assert torch.equal(parameter, value)
        assert torch.equal(optimizer.state[parameter]["exp_avg"], average)
    assert cut_parts > 0
    tied(x).square().mean().backward()
    optimizer.step()


def test_state_goes_to_a_like_twin_and_to_no_other() -> None:
    tied, each, x = _pair("lenet-5")
    again = bayesianize(*made("lenet-5", seed=3), settings=TIED).double()
    again.load_state_dict(tied.state_dict())
    _assert_alike(copy.deepcopy(again).train(), each, x)
    with pytest.raises(RuntimeError, match="weight_output_logvar"):
        each.load_state_dict(tied.state_dict())


def test_bounds_are_those_of_the_weights_log_variances() -> None:
    tied, _, _ = _pair("lenet-5")
    with torch.no_grad():
        for layer in variational_layers(tied):
            layer.weight_output_logvar.mul_(6.0)
    tied.clamp_()
    for layer in variational_layers(tied):
        assert layer.weight_log_variance().min() >= TIED.logvar_min - 1e-9
        assert layer.weight_log_variance().max() <= TIED.logvar_max + 1e-9


def test_parts_are_log_variances_to_the_optimiser() -> None:
    roles = _pair("lenet-300-100")[0].named_roles()
    parts = [
        role for name, role in roles.items() if name.endswith(("output_logvar", "input_logvar"))
    ]
    assert parts == ["logvar"] * 6


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"variances.*'all'.*'each', 'tied'"):
        from_dict(PosteriorSettings, {"variances": "all"})
