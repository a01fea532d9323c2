"""The scale that is always one."""

from __future__ import annotations

import torch
from tests.contracts.group_scale import GroupScaleContract

from epigram.priors import GroupJeffreys, UnitScale


class TestUnitScale(GroupScaleContract):
    kind = UnitScale
    noisy = False

    def test_it_costs_nothing_and_has_no_parameters(self):
        assert UnitScale(4).kl_nats().item() == 0.0
        assert not list(UnitScale(4).parameters())
        assert not UnitScale(4).state_dict()

    def test_it_is_never_more_removable_than_a_confident_scale(self):
        confident = GroupJeffreys(1, logvar_init=-40.0).removability().item()
        assert UnitScale(1).removability().item() < confident

    def test_draws_use_no_random_numbers(self):
        state = torch.get_rng_state()
        UnitScale(4).sample(3)
        assert torch.equal(torch.get_rng_state(), state)
