"""What every group scale must do: inherit, name the class, and the tests come along."""

from __future__ import annotations

import copy
import math
from typing import Any, ClassVar

import pytest
import torch

from epigram.errors import ConfigError, UnsupportedModelError
from epigram.priors import GroupScale, shared_draws


class GroupScaleContract:
    """Subclass as ``class TestX(GroupScaleContract): kind = X``."""

    kind: ClassVar[type[GroupScale]]
    noisy: ClassVar[bool] = True

    def make(self, units: int = 6, **settings: Any) -> GroupScale:
        return self.kind(units, **settings)

    def perturbed(self, units: int = 6, dtype: torch.dtype = torch.float64) -> GroupScale:
        """A scale whose units differ from each other and from the start."""
        scale = self.make(units, dtype=dtype)
        with torch.no_grad():
            for parameter in scale.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        return scale

    def test_shapes(self):
        scale = self.make()
        assert scale.units == 6
        assert scale.sample(4).shape == (4, 6)
        assert scale.kl_nats().shape == ()
        for answer in (scale.mean(), scale.mode(), scale.second_moment(), scale.removability()):
            assert answer.shape == (6,)
            assert torch.isfinite(answer).all()

    def test_starts_with_mean_one(self):
        # rounding of an exponential of a sum of logarithms of about 24
        assert torch.allclose(self.make().mean(), torch.ones(6), rtol=1e-5, atol=0)
        wide = self.make(dtype=torch.float64).mean()
        assert torch.allclose(wide, torch.ones(6, dtype=torch.float64), rtol=1e-13, atol=0)

    def test_moments_are_those_of_its_draws(self):
        scale, draws = self.perturbed(), 200_000
        with torch.no_grad():
            z = scale.sample(draws)
            # five standard errors, measured on the draws themselves
            assert ((z.mean(0) - scale.mean()).abs() <= 5 * z.std(0) / draws**0.5).all()
            squares = z.square()
            error = 5 * squares.std(0) / draws**0.5
            assert ((squares.mean(0) - scale.second_moment()).abs() <= error).all()

    def test_examples_and_units_have_their_own_noise(self):
        z = self.make().sample(3).detach()
        if self.noisy:
            assert z.unique().numel() == z.numel()
        else:
            assert z.unique().numel() == 1

    def test_a_generator_makes_draws_repeatable(self):
        scale = self.make()
        a, b = (scale.sample(3, generator=torch.Generator().manual_seed(7)) for _ in range(2))
        assert torch.equal(a, b)

    def test_draws_are_differentiable_in_every_parameter(self):
        scale = self.perturbed()
        if not list(scale.parameters()):
            return
        scale.sample(5).square().sum().backward()
        assert all(p.grad is not None and (p.grad != 0).any() for p in scale.parameters())

    def test_kl_is_fp32_under_autocast_and_in_narrow_parameters(self):
        scale = self.make(dtype=torch.bfloat16)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert scale.kl_nats().dtype == torch.float32
            assert self.make().kl_nats().dtype == torch.float32

    def test_kl_does_not_depend_on_the_order_of_units_and_adds_up(self):
        scale = self.perturbed()
        shuffled = copy.deepcopy(scale)
        shuffled.keep_(torch.tensor([5, 2, 0, 1, 4, 3]))
        assert shuffled.kl_nats().item() == pytest.approx(scale.kl_nats().item(), rel=1e-12)

        def of(*units: int) -> float:
            part = copy.deepcopy(scale)
            part.keep_(torch.tensor(units, dtype=torch.long))
            return part.kl_nats().item()

        shared = of()  # what does not belong to any unit
        assert of(0, 1) + of(2, 3, 4, 5) - shared == pytest.approx(of(*range(6)), rel=1e-12)

    def test_keep_slices_units_and_keeps_parameter_objects(self):
        scale = self.perturbed()
        index = torch.tensor([4, 1])
        before = {name: (p, p.detach().clone()) for name, p in scale.named_parameters()}
        mean, removability = scale.mean().detach().clone(), scale.removability().detach().clone()
        scale.kl_nats().backward() if before else None
        scale.keep_(index)
        assert scale.units == 2
        assert torch.equal(scale.mean(), mean[index])
        assert torch.equal(scale.removability(), removability[index])
        for name, parameter in scale.named_parameters():
            old, values = before[name]
            axis = scale.unit_parameters().get(name)
            assert parameter is old
            expected = values if axis is None else values.index_select(axis, index)
            assert torch.equal(parameter, expected)
            assert parameter.grad is None or parameter.grad.shape == parameter.shape
        if before:
            scale.sample(3).sum().backward()

    def test_clamp_keeps_log_variances_within_bounds_and_nothing_else(self):
        if not list(self.make().parameters()):
            return
        scale = self.make(logvar_min=-9.0, logvar_max=-1.0)
        with torch.no_grad():
            for parameter in scale.parameters():
                parameter.fill_(50.0)
        scale.clamp_()
        for name, parameter in scale.named_parameters():
            assert (parameter == (-1.0 if name.endswith("logvar") else 50.0)).all()

    def test_without_bounds_nothing_is_clamped(self):
        scale = self.perturbed()
        before = copy.deepcopy(scale.state_dict())
        scale.clamp_()
        assert all(torch.equal(before[name], value) for name, value in scale.state_dict().items())

    @pytest.mark.parametrize("logvar", [-40.0, 40.0])
    def test_kl_has_finite_gradients_at_extreme_log_variances_in_fp32(self, logvar: float):
        scale = self.make()
        names = [n for n, _ in scale.named_parameters() if n.endswith("logvar")]
        with torch.no_grad():
            for name in names:
                # a log-normal's moments are exp(exp logvar): its upper tail ends far below 40
                bound = 3.0 if "local" in name or "global" in name else 40.0
                scale.get_parameter(name).fill_(min(logvar, bound))
        if not names:
            return
        kl = scale.kl_nats()
        kl.backward()
        assert math.isfinite(kl.item())
        assert all(torch.isfinite(p.grad).all() for p in scale.parameters())
        assert torch.isfinite(scale.removability()).all()

    def test_shared_draws_give_readers_one_draw_and_leave_nothing(self):
        scale = self.make()
        with shared_draws([scale, scale], 3):
            first = scale.draw(3)
            assert scale.draw(3) is first
            with shared_draws([scale], 5):
                assert scale.draw(5).shape == (5, 6)
            assert scale.draw(3) is first
        assert scale.shared_draw is None
        if self.noisy:
            assert not torch.equal(scale.draw(3), first)

    def test_shared_draws_are_gone_after_an_exception(self):
        scale = self.make()
        with pytest.raises(KeyError), shared_draws([scale], 3):  # noqa: PT012  what is tested
            scale.draw(3)
            raise KeyError
        assert scale.shared_draw is None

    def test_a_shared_draw_refuses_another_number_of_examples(self):
        scale = self.make()
        with (
            shared_draws([scale], 3),
            pytest.raises(UnsupportedModelError, match=r"12 examples.*shared by 3"),
        ):
            scale.draw(12)
        assert scale.shared_draw is None

    def test_state_round_trips(self):
        scale, other = self.perturbed(), self.make(dtype=torch.float64)
        other.load_state_dict(scale.state_dict())
        assert torch.equal(other.mean(), scale.mean())
        assert torch.equal(other.removability(), scale.removability())

    def test_negative_units_are_refused(self):
        with pytest.raises(ConfigError, match="units=-1"):
            self.make(-1)

    def test_no_units_are_fine(self):
        assert self.make(0).kl_nats().item() >= 0
        assert self.make(0).sample(2).shape == (2, 0)
