"""What a normalisation can and cannot absorb of a scale: the derivation of docs/twins.md, in numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from epigram.convert import PosteriorSettings, Twin, bayesianize


def network() -> nn.Module:
    """Group 0 has a normalisation behind its reader, group 3 one in front only."""
    return nn.Sequential(
        nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(),
        nn.Linear(6, 4), nn.BatchNorm1d(4, eps=1e-20), nn.ReLU(), nn.Linear(4, 3),
    )  # fmt: skip


def converted(prior: str) -> tuple[Twin, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(16, 5, dtype=torch.float64)
    settings = PosteriorSettings(positions=False, variance_eps=1e-30)
    twin = bayesianize(network().double(), x, prior, settings=settings).train()
    with torch.no_grad():
        for parameter in twin.scales.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return twin, x


@torch.no_grad()
def multiply_scale_(twin: Twin, name: str, factor: float) -> None:
    """z -> factor · z, for every unit."""
    scale = twin.scale(name)
    if hasattr(scale, "z_mean"):
        scale.z_mean.mul_(factor)
        scale.z_logvar.add_(2 * math.log(factor))
    else:
        scale.global_gamma_mean.add_(2 * math.log(factor))


def looked_at(twin: Twin, x: Tensor) -> tuple[Tensor, Tensor, dict[str, np.ndarray]]:
    torch.manual_seed(1)
    return twin(x), sum(scale.kl_nats() for scale in twin.scales), twin.removability()


@pytest.mark.parametrize("factor", [0.01, 3.0])
def test_gamma_in_front_takes_over_a_scales_size_and_nothing_else(factor: float) -> None:
    """(γ, β, z) -> (γ / c, β / c, c z) is the same network; normal-Jeffreys gains nothing by it."""
    twin, x = converted("group-jeffreys")
    before = looked_at(twin, x)
    with torch.no_grad():
        for parameter in twin.network[4].parameters():
            parameter.div_(factor)
    multiply_scale_(twin, "3", factor)
    after = looked_at(twin, x)
    torch.testing.assert_close(after[0], before[0], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(after[1], before[1], rtol=1e-12, atol=0)
    np.testing.assert_allclose(after[2]["3"], before[2]["3"], rtol=1e-11)


@pytest.mark.parametrize("prior", ["group-jeffreys", "group-horseshoe"])
def test_a_normalisation_behind_its_readers_cancels_a_common_factor(prior: str) -> None:
    """The outputs stay, whatever the factor; so must what decides on removal."""
    twin, x = converted(prior)
    with torch.no_grad():  # the bias is not multiplied; the normalisation subtracts its mean
        twin.network[3].bias_logvar.fill_(-60.0)
    before = looked_at(twin, x)
    multiply_scale_(twin, "0", 50.0)
    after = looked_at(twin, x)
    torch.testing.assert_close(after[0], before[0], rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(after[2]["0"], before[2]["0"], rtol=0, atol=1e-10)
    free = twin.scale("0").scale_free
    assert free == (prior == "group-jeffreys")
    assert torch.isclose(after[1], before[1], rtol=1e-9) == free  # the horseshoe's KL does change


def test_without_a_normalisation_behind_it_the_horseshoe_goes_by_size() -> None:
    twin, _ = converted("group-horseshoe")
    before = twin.removability()["3"]
    multiply_scale_(twin, "3", math.exp(-5.0))
    np.testing.assert_allclose(twin.removability()["3"] - before, 5.0, rtol=1e-9)
