"""Group horseshoe."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from tests.contracts.group_scale import GroupScaleContract
from tests.reference.maths_reference import kl_lognormal_by_quadrature

from epigram.errors import ConfigError
from epigram.priors import GroupHorseshoe


def _reference_kl(scale: GroupHorseshoe) -> float:
    """Every factor's KL by quadrature, written from the prior's definition."""
    p = {name: value.detach().double().numpy() for name, value in scale.named_parameters()}

    def gamma(mean: float, logvar: float, size: float) -> float:
        return kl_lognormal_by_quadrature(
            mean, logvar, lambda x: stats.gamma.logpdf(x, 0.5, scale=size)
        )

    def inverse_gamma(mean: float, logvar: float) -> float:
        return kl_lognormal_by_quadrature(mean, logvar, lambda x: stats.invgamma.logpdf(x, 0.5))

    total = gamma(p["global_gamma_mean"], p["global_gamma_logvar"], scale.tau0**2)
    total += inverse_gamma(p["global_inverse_mean"], p["global_inverse_logvar"])
    for pair in zip(p["local_gamma_mean"], p["local_gamma_logvar"], strict=True):
        total += gamma(*pair, 1.0)
    for pair in zip(p["local_inverse_mean"], p["local_inverse_logvar"], strict=True):
        total += inverse_gamma(*pair)
    return total


class TestGroupHorseshoe(GroupScaleContract):
    kind = GroupHorseshoe

    def test_kl_is_the_sum_of_the_factors_integrals(self):
        scale = self.perturbed(units=3)
        assert scale.kl_nats().item() == pytest.approx(_reference_kl(scale), rel=1e-8)

    def test_the_prior_it_uses_is_a_half_cauchy(self):
        # sqrt(Gamma(1/2, scale k^2) * InvGamma(1/2, 1)) ~ C+(0, k): the decomposition itself
        rng, k, n = np.random.default_rng(0), 0.3, 20_000
        z = np.sqrt(rng.gamma(0.5, k**2, n) / rng.gamma(0.5, 1.0, n))
        assert stats.kstest(z, stats.halfcauchy(scale=k).cdf).pvalue > 1e-3

    @pytest.mark.parametrize("global_init", [None, 1e-5, 1e-2, 1.0, 30.0])
    def test_mean_is_one_wherever_the_global_scale_starts(self, global_init: float | None):
        scale = GroupHorseshoe(4, global_init=global_init, dtype=torch.float64)
        assert torch.allclose(scale.mean(), torch.ones(4, dtype=torch.float64), rtol=1e-12)
        median = math.exp(0.5 * (scale.global_gamma_mean + scale.global_inverse_mean).item())
        assert median == pytest.approx(1e-5 if global_init is None else global_init, rel=1e-12)

    def test_factors_without_a_lift_start_where_their_divergence_is_least(self):
        scale = GroupHorseshoe(2, dtype=torch.float64)
        scale.kl_nats().backward()
        for name in ("global_gamma_mean", "global_inverse_mean", "local_gamma_mean"):
            assert scale.get_parameter(name).grad.abs().max().item() < 1e-12
        # and the lifted one pays half a nat per e-fold
        assert scale.local_inverse_mean.grad.tolist() == pytest.approx([0.5, 0.5], abs=1e-6)

    def test_units_of_one_example_share_its_global_draw(self):
        scale = GroupHorseshoe(2, logvar_init=-30.0, global_logvar_init=0.0, dtype=torch.float64)
        log_z = scale.sample(50).detach().log()
        assert torch.allclose(log_z[:, 0], log_z[:, 1], atol=1e-5)  # local std is exp(-15)
        assert log_z[:, 0].std() > 0.3  # that of log s is sqrt(1/2)

    def test_log_draws_are_normal_with_the_variance_of_all_four_factors(self):
        scale = self.perturbed(units=1)
        log_z = scale.sample(50_000).detach().log().flatten().numpy()
        variance = 0.25 * sum(
            p.exp().item() for n, p in scale.named_parameters() if n.endswith("logvar")
        )
        mean = 0.5 * sum(p.item() for n, p in scale.named_parameters() if n.endswith("_mean"))
        assert stats.kstest(log_z, stats.norm(mean, variance**0.5).cdf).pvalue > 1e-3

    def test_removability_is_the_negative_log_mode(self):
        scale = self.perturbed()
        assert torch.allclose(scale.removability(), -scale.mode().log(), rtol=1e-12)

    def test_removability_grows_as_a_unit_shrinks_unlike_log_alpha(self):
        scale = self.perturbed(units=2)
        with torch.no_grad():
            before = scale.removability().clone()
            scale.local_gamma_mean[0] -= 4.0
        gain = scale.removability() - before
        assert gain.tolist() == pytest.approx([2.0, 0.0], abs=1e-12)

    def test_global_factors_have_no_unit_axis(self):
        scale = GroupHorseshoe(3)
        assert set(scale.unit_parameters()) == {
            name for name, p in scale.named_parameters() if p.dim() == 1
        }

    def test_kl_gradients_are_those_of_finite_differences(self):
        scale = self.perturbed(units=2)
        names = [name for name, _ in scale.named_parameters()]

        def kl(*values):
            return torch.func.functional_call(
                _Kl(scale), dict(zip(prefixed, values, strict=True)), ()
            )

        prefixed = [f"scale.{name}" for name in names]
        values = tuple(p.detach().clone().requires_grad_() for p in scale.parameters())
        assert torch.autograd.gradcheck(kl, values)

    @pytest.mark.parametrize("tau0", [0.0, -1.0, math.nan])
    def test_a_global_scale_that_is_not_positive_is_refused(self, tau0: float):
        with pytest.raises(ConfigError, match="tau0"):
            GroupHorseshoe(3, tau0=tau0)

    def test_a_start_below_the_prior_is_refused(self):
        with pytest.raises(ConfigError, match="global_init=1e-09"):
            GroupHorseshoe(3, global_init=1e-9)


class _Kl(torch.nn.Module):
    def __init__(self, scale: GroupHorseshoe) -> None:
        super().__init__()
        self.scale = scale

    def forward(self) -> torch.Tensor:
        return self.scale.kl_nats()
