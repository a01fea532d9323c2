"""Conversion of single layers, the KL of a network, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from epigram.errors import UnsupportedModelError
from epigram.layers import (
    ScaleUse,
    VariationalLinear,
    from_plain,
    scales_of,
    shared_draws,
    to_plain,
    total_kl_nats,
)
from epigram.priors import GroupHorseshoe, GroupJeffreys


class _TwoReaders(nn.Module):
    """Two layers that read the same group, of which the second sees every unit twice."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = GroupJeffreys(3, dtype=torch.float64)
        index = torch.tensor([0, 0, 1, 1, 2, 2])
        self.a = VariationalLinear(3, 2, scale_uses=[ScaleUse(self.scale)], dtype=torch.float64)
        self.b = VariationalLinear(
            6, 2, scale_uses=[ScaleUse(self.scale, index)], dtype=torch.float64
        )


def test_a_shared_scale_counts_once():
    net = _TwoReaders()
    expected = net.a.weight_kl_nats() + net.b.weight_kl_nats() + net.scale.kl_nats()
    assert total_kl_nats(net).item() == pytest.approx(expected.item(), rel=1e-13)
    assert scales_of(net) == [net.scale]


def test_a_scale_given_to_two_layers_as_their_own_counts_once():
    scale = GroupHorseshoe(4)
    net = nn.Sequential(VariationalLinear(4, 4, scale=scale), VariationalLinear(4, 4, scale=scale))
    expected = sum(layer.weight_kl_nats() for layer in net) + scale.kl_nats()
    assert total_kl_nats(net).item() == pytest.approx(expected.item(), rel=1e-6)


def test_readers_see_one_draw_spread_over_their_inputs():
    net = _TwoReaders()
    with shared_draws([net.scale], 5):
        a, b = (layer.scale_uses[0].draw(5) for layer in (net.a, net.b))
    assert torch.equal(a.repeat_interleave(2, dim=1), b)
    with shared_draws([net.scale], 5):
        net.b(torch.ones(5, 6, dtype=torch.float64)).sum().backward()
    assert net.scale.z_mean.grad.abs().min() > 0


def test_the_pretrained_weights_are_copied_not_shared():
    plain = nn.Linear(3, 2)
    layer = from_plain(plain, logvar_init=-5.0)
    before = plain.weight.detach().clone()
    with torch.no_grad():
        layer.weight_mean.add_(1.0)
    assert torch.equal(plain.weight, before)
    assert (layer.weight_logvar == -5.0).all()


def test_frozen_weights_and_the_mode_are_carried_over():
    plain = nn.Linear(3, 2).eval()
    plain.weight.requires_grad_(False)
    layer = from_plain(plain)
    assert not layer.weight_mean.requires_grad
    assert not layer.training
    back = to_plain(layer)
    assert not back.weight.requires_grad
    assert back.bias.requires_grad
    assert not back.training


class _Odd(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + 1.0


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (nn.Bilinear(2, 2, 2), "Bilinear"),
        (_Odd(2, 2), "_Odd"),
        (nn.LazyLinear(3), "LazyLinear"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)), "ParametrizedLinear"),
    ],
)
def test_layers_without_a_counterpart_are_refused_by_name(module: nn.Module, said: str):
    with pytest.raises(UnsupportedModelError, match=said):
        from_plain(module)


def test_a_weight_computed_by_hooks_is_refused():
    plain = nn.Linear(2, 2)
    del plain.weight
    plain.weight = torch.ones(2, 2)
    with pytest.raises(UnsupportedModelError, match="computed"):
        from_plain(plain)


def test_the_kl_of_a_network_without_variational_layers_is_refused():
    with pytest.raises(UnsupportedModelError, match="Sequential"):
        total_kl_nats(nn.Sequential(nn.Linear(2, 2)))
