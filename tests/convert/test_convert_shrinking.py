"""A twin that shrinks computes what masking says, and its plain network with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.convert.convert_masks import keep_some, masked, random_scales_
from tests.convert.convert_networks import NETWORKS, made
from torch import nn

from epigram.convert import PosteriorSettings, bayesianize, dense_weights
from epigram.errors import ConfigError
from epigram.layers import VariationalLayer
from epigram.train import slice_optimizer_state_


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
