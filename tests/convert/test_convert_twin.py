"""The twin computes what its original does, counts what it should, and refuses what it cannot."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests.convert.convert_masks import keep_some, random_scales_
from tests.convert.convert_networks import NETWORKS, Concatenated, made
from torch import Tensor, nn

from epigram.config import from_dict
from epigram.convert import PosteriorSettings, Twin, bayesianize
from epigram.errors import ConfigError, UnsupportedModelError
from epigram.layers import VariationalLayer
from epigram.priors import GroupJeffreys


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("prior", ["group-jeffreys", "unit", "group-horseshoe"])
def test_the_mean_is_the_original(name: str, prior: str) -> None:
    network, x = made(name)
    twin = bayesianize(network, x, prior)
    assert not twin.training
    if prior == "group-horseshoe":  # its E z is a product of exponentials, 1 up to rounding
        torch.testing.assert_close(twin(x), network(x), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(twin.plain()(x), network(x), rtol=1e-6, atol=1e-6)
    else:
        assert torch.equal(twin(x), network(x))
        assert torch.equal(twin.plain()(x), network(x))


def test_a_shared_scale_counts_once() -> None:
    network, x = made("residual")
    twin = bayesianize(network, x)
    readers = [
        layer
        for layer in twin.modules()
        if isinstance(layer, VariationalLayer)
        and any(use.scale is twin.scale("stem") for use in layer.scale_uses)
    ]
    assert len(readers) == 2  # the branch and the head
    by_hand = sum(scale.kl_nats() for scale in twin.scales)
    for layer in twin.modules():
        if isinstance(layer, VariationalLayer):
            for mean, logvar in zip(*layer.posterior(), strict=True):
                by_hand = by_hand + 0.5 * (logvar.exp() + mean**2 - logvar - 1).sum()
    torch.testing.assert_close(twin.kl_nats(), by_hand, rtol=1e-5, atol=0)


def test_all_readers_of_a_scale_see_one_draw() -> None:
    network, x = made("residual")
    twin = bayesianize(network, x)
    drawn: list[Tensor] = []
    scale = twin.scale("stem")
    original = scale.sample
    scale.sample = lambda batch, **more: drawn.append(original(batch, **more)) or drawn[-1]
    twin.train()(x)
    assert len(drawn) == 1


def same_function(seed: int) -> tuple[tuple[Twin, Tensor], tuple[Twin, Tensor]]:
    made_two = []
    for name in ("lenet-300-100", "lenet-300-100-conv"):
        network, x = made(name, seed=seed, batch=5)
        made_two.append((network.double(), x.double()))
    (linear, x), (convolutional, _) = made_two
    for theirs, ours in zip(convolutional.parameters(), linear.parameters(), strict=True):
        theirs.data.copy_(ours.data.view_as(theirs))
    return (bayesianize(linear, x), x), (bayesianize(convolutional, x), x)


@pytest.mark.parametrize("shrunken", [False, True], ids=["whole", "shrunken"])
def test_linear_layers_and_1x1_convolutions_train_alike(shrunken: bool) -> None:
    """Same weights, same noise: same loss, KL and gradients (fp64, 1e-9: sums in another order)."""
    (linear, x), (convolutional, _) = same_function(0)
    assert linear.units_kept() == convolutional.units_kept()
    if shrunken:
        keep = keep_some(linear, np.random.default_rng(0), 0.5)
        for twin in (linear, convolutional):
            twin.shrink_(keep)
    targets = torch.arange(5)
    found = []
    for twin in (linear, convolutional):
        torch.manual_seed(7)
        loss = nn.functional.cross_entropy(twin.train()(x), targets) + twin.kl_nats() / 1000
        loss.backward()
        found.append((loss, twin.kl_nats(), dict(twin.named_parameters())))
    (loss1, kl1, first), (loss2, kl2, second) = found
    torch.testing.assert_close(loss1, loss2, rtol=1e-9, atol=0)
    torch.testing.assert_close(kl1, kl2, rtol=1e-9, atol=0)
    assert first.keys() == second.keys()
    for name, parameter in first.items():
        other = second[name].grad.view_as(parameter)
        torch.testing.assert_close(parameter.grad, other, rtol=1e-9, atol=1e-13)


@torch.no_grad()
def test_posterior_moments_are_those_of_draws() -> None:
    """Mean and marginal variance against sampled weights; 5 standard errors of 40 000 draws."""
    network, x = made("conv-bn-relu")
    twin = bayesianize(network, x)
    random_scales_(twin)
    layer, scale = twin.network[3], twin.scale("0")
    draws = 40_000
    z = scale.sample(draws)[:, 2]
    noise = torch.randn(draws)
    w = z * (layer.weight_mean[4, 2, 1, 1] + noise * (layer.weight_logvar[4, 2, 1, 1] / 2).exp())
    found = twin.posterior()["3.weight"]
    mean, variance = found.mean[4, 2, 1, 1], found.marginal_variance[4, 2, 1, 1]
    assert abs(float(w.mean()) - mean) < 5 * math.sqrt(variance / draws)
    assert abs(float(w.var()) / variance - 1) < 5 * math.sqrt(2 / draws) * 2
    # the product of the likelihood's normal and the prior's N(0, z²) has the posterior's variance
    z_mean = float(scale.mean()[2])
    given_z = z_mean**2 * float(layer.weight_logvar[4, 2, 1, 1].exp())
    product = 1 / (1 / found.likelihood_std[4, 2, 1, 1] ** 2 + 1 / z_mean**2)
    assert product == pytest.approx(given_z, rel=1e-5)


@torch.no_grad()
def test_a_weight_the_data_say_nothing_about_may_be_told_coarsely() -> None:
    """Its posterior is its prior, however small the scale: rounding it away costs nothing."""
    network, x = made("conv-bn-relu")
    twin = bayesianize(network, x)
    layer, scale = twin.network[3], twin.scale("0")
    layer.weight_logvar.zero_()
    scale.z_mean.fill_(1e-3)
    found = twin.posterior()["3.weight"]
    assert (found.likelihood_std >= 90 * 1e-3).all()


def test_a_shared_module_stays_one_module() -> None:
    network, x = made("twice")
    twin = bayesianize(network, x)
    assert twin.network.again is twin.network.middle
    plain = twin.plain()
    assert plain.again is plain.middle


def test_tied_layers_stay_as_they_are_and_the_others_do_not() -> None:
    network, x = made("twice")
    network.last = nn.Linear(5, 5)
    network.last.weight = network.middle.weight
    twin = bayesianize(network, x)
    assert twin.deterministic == {
        "middle": "tied: it shares a parameter with last",
        "last": "tied: it shares a parameter with middle",
    }
    assert twin.network.last.weight is twin.network.middle.weight
    plain = twin.plain()
    assert plain.last.weight is plain.middle.weight
    assert set(twin.posterior()) == {"first.weight", "first.bias"}
    assert torch.equal(twin(x), network(x))


def test_nothing_to_convert_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="without a layer to make variational"):
        bayesianize(nn.Sequential(nn.PReLU(4)), torch.ones(1, 4))


class Choosing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc2(self.fc1(x).relu())
        if x.sum() > 0:
            x = 2.0 * x
        return x


def test_a_network_that_cannot_be_followed_keeps_its_units_on_request() -> None:
    network, x = Choosing(), torch.randn(4, 6)
    with pytest.raises(UnsupportedModelError, match=r"`if x.sum\(\) > 0:`.*on_failure='leave'"):
        bayesianize(network, x)
    leave = PosteriorSettings(on_failure="leave")
    for twin in (
        bayesianize(network, x, on_failure="leave"),
        bayesianize(network, x, settings=leave),
    ):
        assert (twin.names, twin.units_kept(), twin.deterministic) == ((), {}, {})
        assert [entry.operation for entry in twin.structure.left_whole] == ["export"]
        assert torch.equal(twin.eval()(x), network(x))
        twin.train()
        (twin(x).square().sum() + twin.kl_nats() / 100).backward()
        assert all(torch.isfinite(p.grad).all() for p in twin.parameters())


def test_the_concatenated_reader_has_a_scale_per_group() -> None:
    network, x = made("concatenated")
    assert isinstance(network, Concatenated)
    twin = bayesianize(network, x)
    indices = [use.index.tolist() for use in twin.network.both.scale_uses]
    assert indices == [[0, 1, 2, 3, 4, -1, -1, -1, -1], [-1] * 5 + [0, 1, 2, 3]]
    assert [use.index.tolist() for use in twin.network.beside.scale_uses] == [
        [0, 1, 2, 3, 4, 5, -1]
    ]


def test_scales_have_the_precision_of_the_network() -> None:
    network, x = made("lenet-300-100")
    twin = bayesianize(network.double(), x.double())
    scale = twin.scale("fc1")
    assert isinstance(scale, GroupJeffreys)
    assert scale.z_mean.dtype == torch.float64


@pytest.mark.parametrize("bad", [{"logvar_init": 3.0}, {"scale_logvar_min": 0.0}])
def test_settings_that_make_no_sense_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        PosteriorSettings(**bad)
    with pytest.raises(ConfigError, match=r"on_failure.*leave"):
        from_dict(PosteriorSettings, {"on_failure": "ignore"})


def test_roles_and_counts() -> None:
    network, x = made("lenet-5")
    twin = bayesianize(network, x)
    assert twin.effective_parameters() == 431_080
    roles = twin.named_roles()
    assert roles.keys() == dict(twin.named_parameters()).keys()
    assert {roles["network.conv1.weight_mean"], roles["network.fc1.layer.bias_logvar"]} == {
        "mean",
        "logvar",
    }
    assert {v for k, v in roles.items() if k.startswith("scales.")} == {"scale"}
    keep = {"fc1.positions": np.arange(800) % 2 == 0}
    twin.shrink_(keep)
    assert twin.effective_parameters() == 431_080 - 400 * 500
    np.testing.assert_array_equal(twin.kept_masks()["fc1.positions"], keep["fc1.positions"])
    np.testing.assert_array_equal(twin.live_positions()["fc1.weight"], keep["fc1.positions"])


class AsksForItsLayersDtype(nn.Module):
    """As in Gemma 4's patches: the input is cast to what the first layer's weight is."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x.to(self.first.weight.dtype))))


def test_other_code_may_ask_for_the_weight_of_a_layer_that_reads_positions() -> None:
    torch.manual_seed(0)
    network, x = AsksForItsLayersDtype(), torch.randn(3, 6)
    twin = bayesianize(network, x).eval()
    assert "first.positions" in twin.names
    random_scales_(twin)
    twin.shrink_({"first.positions": np.arange(6) != 2})
    reader, plain = twin.network.get_submodule("first"), twin.plain()
    torch.testing.assert_close(reader.weight, plain.get_submodule("first").weight)
    torch.testing.assert_close(reader.bias, plain.get_submodule("first").bias)
    torch.testing.assert_close(twin(x), plain(x))
