"""The twin computes what its original does, and shrinks to what masking says."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from tests.convert.convert_networks import NETWORKS, Concatenated, made
from torch import Tensor, nn

from epigram.convert import PosteriorSettings, Twin, bayesianize, dense_weights
from epigram.errors import ConfigError, UnsupportedModelError
from epigram.layers import VariationalLayer
from epigram.priors import GroupJeffreys
from epigram.train import slice_optimizer_state_


def keep_some(twin: Twin, rng: np.random.Generator, share: float) -> dict[str, np.ndarray]:
    """A random mask per scale in which every unit that stays keeps a position, and vice versa."""
    masks = {}
    for name, (units, _) in twin.units_kept().items():
        mask = rng.random(units) < share
        mask[rng.integers(units)] = True
        masks[name] = mask
    for name, mask in masks.items():
        try:
            owners = twin.position_owners(name)
        except KeyError:
            continue
        group = name.removesuffix(".positions")
        group = next(a.group for a in twin.structure.positions if a.name == group)
        if not (mask & masks[group][owners]).any():
            masks[group][owners[np.flatnonzero(mask)[0]]] = True
    return masks


def masked(twin: Twin, keep: dict[str, np.ndarray]) -> Twin:
    reference = copy.deepcopy(twin)
    for name, mask in keep.items():
        reference.scale(name).z_mean.data[~torch.from_numpy(mask)] = 0.0
    return reference


def random_scales_(twin: Twin) -> None:
    for name in twin.names:
        twin.scale(name).z_mean.data.uniform_(0.5, 1.5)


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


@pytest.mark.parametrize("name", NETWORKS)
def test_shrinking_is_masking_several_times_in_a_row(name: str) -> None:
    network, x = made(name)
    torch.manual_seed(1)
    twin = bayesianize(network.double(), x.double(), "group-jeffreys")
    x = x.double()
    random_scales_(twin)
    rng = np.random.default_rng(0)
    for share in (0.7, 0.6, 0.7):
        keep = keep_some(twin, rng, share)
        expected = masked(twin, keep)(x)
        twin.shrink_(keep)
        torch.testing.assert_close(twin(x), expected, rtol=1e-10, atol=1e-12)
        plain = twin.plain()
        assert type(plain) is type(network)
        torch.testing.assert_close(plain(x), expected, rtol=1e-10, atol=1e-12)
        assert not any(isinstance(m, VariationalLayer) for m in plain.modules())
    assert any(after < before for after, before in twin.units_kept().values())
    twin.train()
    twin(x).sum().backward()  # and it still trains


@pytest.mark.parametrize("name", ["lenet-5", "concatenated", "grouped", "depthwise"])
def test_a_shrunken_plain_network_says_its_own_sizes(name: str) -> None:
    """Attributes agree with the tensors: a module rebuilt from them takes the weights."""
    network, x = made(name)
    twin = bayesianize(network, x)
    twin.shrink_(keep_some(twin, np.random.default_rng(3), 0.5))
    for module in twin.plain().modules():
        if isinstance(module, nn.Conv2d):
            again = nn.Conv2d(
                module.in_channels, module.out_channels, module.kernel_size, groups=module.groups
            )
            assert again.weight.shape == module.weight.shape
        if isinstance(module, nn.Linear):
            assert module.weight.shape == (module.out_features, module.in_features)


def test_parameters_and_optimiser_shrink_together() -> None:
    """Adam's next step on the shrunken twin is the step the big one would take on those entries."""
    network, x = made("lenet-300-100")
    twin = bayesianize(network, x).train()
    optimizer = torch.optim.Adam(twin.parameters(), lr=1e-2)
    twin(x).square().mean().backward()
    optimizer.step()
    before = {
        id(p): (p.detach().clone(), optimizer.state[p]["exp_avg"].clone())
        for p in twin.parameters()
    }
    keep = keep_some(twin, np.random.default_rng(0), 0.5)
    cuts = twin.shrink_(keep)
    for cut in cuts:
        slice_optimizer_state_(optimizer, cut.parameter, cut.axis, cut.index)
    assert {id(p) for p in twin.parameters()} == before.keys()
    for parameter in twin.parameters():
        value, average = before[id(parameter)]
        for cut in (c for c in cuts if c.parameter is parameter):
            value = value.index_select(cut.axis, cut.index)
            average = average.index_select(cut.axis, cut.index)
        assert torch.equal(parameter, value)
        assert torch.equal(optimizer.state[parameter]["exp_avg"], average)
    twin(x).square().mean().backward()
    optimizer.step()


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
    expected = scale.mean()[2] * (layer.weight_logvar[4, 2, 1, 1] / 2).exp()
    assert found.std[4, 2, 1, 1] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("ignored", ["fc2", "fc*2", nn.Identity])
def test_ignored_layers_stay_plain(ignored: object) -> None:
    network, x = made("lenet-300-100")
    twin = bayesianize(network, x, ignored_layers=[ignored])
    variational = isinstance(twin.network.fc2, VariationalLayer)
    assert variational == (ignored is nn.Identity)
    keep = keep_some(twin, np.random.default_rng(0), 0.5)
    random_scales_(twin)
    expected = masked(twin, keep)(x)
    twin.shrink_(keep)
    if variational:
        torch.testing.assert_close(twin(x), expected)
    else:  # a plain reader has no scale, so its group has none either and stays whole
        assert "fc1" not in twin.names
        assert twin.plain().fc2.in_features == 300


def test_a_shared_module_stays_one_module() -> None:
    network, x = made("twice")
    twin = bayesianize(network, x)
    assert twin.network.again is twin.network.middle
    plain = twin.plain()
    assert plain.again is plain.middle


def test_tied_weights_are_refused() -> None:
    network, x = made("twice")
    network.last = nn.Linear(5, 5)
    network.last.weight = network.middle.weight
    with pytest.raises(UnsupportedModelError, match="middle and last share a parameter"):
        bayesianize(network, x)


def test_nothing_to_convert_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="without a layer to make variational"):
        bayesianize(nn.Sequential(nn.PReLU(4)), torch.ones(1, 4))


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ({"fc9": np.ones(3, bool)}, "no scale 'fc9'"),
        ({"fc1": np.ones(3, bool)}, "expected \\(300,\\)"),
        ({"fc1": np.zeros(300, bool)}, "all 300 units would go"),
    ],
)
def test_a_wrong_mask_changes_nothing(keep: dict[str, np.ndarray], message: str) -> None:
    network, x = made("lenet-300-100")
    twin = bayesianize(network, x)
    with pytest.raises(ConfigError, match=message):
        twin.shrink_({"fc2": np.arange(100) < 5, **keep})
    assert twin.units_kept()["fc2"] == (100, 100)
    assert torch.equal(twin(x), network(x))


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


def test_without_position_scales_only_units_go() -> None:
    network, x = made("lenet-5")
    twin = bayesianize(network, x, settings=PosteriorSettings(positions=False))
    assert set(twin.names) == {"conv1", "conv2", "fc1"}
    random_scales_(twin)
    keep = keep_some(twin, np.random.default_rng(0), 0.5)
    expected = masked(twin, keep)(x)
    twin.shrink_(keep)
    torch.testing.assert_close(twin(x), expected)
    torch.testing.assert_close(twin.plain()(x), expected)
    assert twin.live_positions() == {}


def test_positions_of_removed_units_go_too() -> None:
    network, x = made("lenet-5")
    twin = bayesianize(network, x)
    twin.shrink_({"conv2": np.arange(50) < 10})
    assert twin.units_kept()["fc1.positions"] == (160, 800)
    assert twin.position_owners("fc1.positions").tolist() == [k // 16 for k in range(160)]
    assert twin.live_positions() == {}  # all columns that the plain layer still has are read


@pytest.mark.parametrize("name", ["lenet-300-100-conv", "residual", "concatenated", "depthwise"])
def test_dense_weights_mark_what_is_gone(name: str) -> None:
    network, x = made(name)
    twin = bayesianize(network, x)
    shapes = {
        n: tuple(p.shape)
        for n, p in network.named_parameters()
        if n.endswith("weight") and p.dim() > 1
    }
    shapes = {n: shape for n, shape in shapes.items() if n in twin.posterior()}
    for n, values in dense_weights(twin, shapes).items():
        np.testing.assert_array_equal(values, network.get_parameter(n).detach().numpy())
    twin.shrink_(keep_some(twin, np.random.default_rng(0), 0.6))
    left = 0
    for n, values in dense_weights(twin, shapes).items():
        there = ~np.isnan(values)
        left += int(there.sum())
        original = network.get_parameter(n).detach().numpy()
        np.testing.assert_array_equal(values[there], original[there])
    biases = sum(len(p.mean) for n, p in twin.posterior().items() if n.endswith("bias"))
    norms = sum(m.num_features * 2 for m in twin.modules() if isinstance(m, nn.BatchNorm2d))
    assert left == twin.effective_parameters() - biases - norms
