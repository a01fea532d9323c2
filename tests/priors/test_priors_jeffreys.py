"""Group normal-Jeffreys."""

from __future__ import annotations

import math

import pytest
import torch
from tests.contracts.group_scale import GroupScaleContract
from tests.reference.maths_reference import kl_log_uniform_series

from epigram.errors import ConfigError
from epigram.priors import GroupJeffreys


class TestGroupJeffreys(GroupScaleContract):
    kind = GroupJeffreys

    def test_mean_starts_at_exactly_one(self):
        assert (GroupJeffreys(5).mean() == 1.0).all()

    def test_kl_is_within_the_fit_of_the_exact_series(self):
        scale = GroupJeffreys(3, logvar_init=-2.0, dtype=torch.float64)
        assert scale.kl_nats().item() == pytest.approx(3 * kl_log_uniform_series(-2.0), abs=0.03)

    def test_kl_and_removability_ignore_the_size_of_z(self):
        scale = self.perturbed()
        kl, removability = scale.kl_nats().item(), scale.removability().detach()
        with torch.no_grad():
            scale.z_mean.mul_(7.0)
            scale.z_logvar.add_(2 * math.log(7.0))
        assert scale.kl_nats().item() == pytest.approx(kl, rel=1e-12)
        assert torch.allclose(scale.removability(), removability, rtol=1e-12)

    def test_removability_is_the_log_noise_to_signal_ratio_of_draws(self):
        scale = GroupJeffreys(1, logvar_init=0.5, dtype=torch.float64)
        z = scale.sample(400_000).detach()
        measured = (z.var() / z.mean() ** 2).log().item()
        # five standard errors: 2/n for the variance, 4 alpha/n for the squared mean
        assert scale.removability().item() == pytest.approx(
            measured, abs=5 * (8.6 / 400_000) ** 0.5
        )

    def test_a_start_outside_the_bounds_is_refused(self):
        with pytest.raises(ConfigError, match="outside"):
            GroupJeffreys(3, logvar_init=0.0, logvar_max=-1.0)

    def test_bounds_the_wrong_way_round_are_refused(self):
        with pytest.raises(ConfigError, match=r"logvar_min=1\.0, logvar_max=0\.0"):
            GroupJeffreys(3, logvar_min=1.0, logvar_max=0.0)
