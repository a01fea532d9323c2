"""What every variational layer must do: inherit, name the class and its cases."""

from __future__ import annotations

import copy
import pickle
from typing import Any, ClassVar, Literal

import pytest
import torch
from tests.reference import maths_reference as reference
from torch import Tensor, nn

from epigram.errors import ConfigError
from epigram.layers import ScaleUse, VariationalLayer, from_plain, sampling, to_plain
from epigram.priors import GroupHorseshoe, GroupJeffreys, GroupScale, UnitScale, shared_draws


# torch warns that its plain layer may copy the input; ours pads it itself
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
class VariationalLayerContract:
    """Subclass as ``class TestX(VariationalLayerContract)`` and fill in the four class variables.

    ``cases``: constructor arguments of the plain layer, by keyword; ``shape``: of one input example.
    """

    kind: ClassVar[type[VariationalLayer]]
    plain: ClassVar[type[nn.Module]]
    shape: ClassVar[tuple[int, ...]]
    cases: ClassVar[tuple[dict[str, Any], ...]]
    variances: ClassVar[Literal["each", "tied"]] = "each"

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "fields" in metafunc.fixturenames:
            metafunc.parametrize("fields", self.cases)

    def inputs(self, fields: dict[str, Any]) -> int:
        return int(fields.get("in_features", fields.get("in_channels", 0)))

    def example(self, batch: int = 2, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.randn(batch, *self.shape, dtype=dtype)

    def make(self, fields: dict[str, Any], **settings: Any) -> VariationalLayer:
        settings = {"variances": self.variances, **settings}
        layer = self.kind(**fields, dtype=torch.float64, **settings)
        with torch.no_grad():
            for logvar in layer.parameters_of("weight")[1:]:
                logvar.add_(torch.randn_like(logvar))
        return layer

    def perturbed_scale(self, units: int, kind: type[GroupScale] = GroupJeffreys) -> GroupScale:
        scale = kind(units, dtype=torch.float64)
        with torch.no_grad():
            for parameter in scale.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        return scale

    # --- the plain layer inside ----------------------------------------------------------------

    def test_eval_without_a_scale_is_the_plain_layer(self, fields):
        plain = self.plain(**fields, dtype=torch.float64)
        x = self.example()
        layer = from_plain(plain).eval()
        assert type(layer) is self.kind
        assert torch.equal(layer(x), plain(x))

    def test_there_and_back_keeps_every_bit_and_every_field(self, fields):
        plain = self.plain(**fields)
        back = to_plain(
            from_plain(plain, scale_uses=[ScaleUse(GroupJeffreys(self.inputs(fields)))])
        )
        assert type(back) is self.plain
        assert back.extra_repr() == plain.extra_repr()
        assert set(back.state_dict()) == set(plain.state_dict())
        for name, tensor in plain.state_dict().items():
            assert torch.equal(back.state_dict()[name], tensor)
            assert back.state_dict()[name].data_ptr() != tensor.data_ptr()

    def test_folding_scales_in_changes_nothing_that_eval_computes(self, fields):
        scale = self.perturbed_scale(self.inputs(fields))
        layer = self.make(fields, scale=scale).eval()
        x = self.example()
        # scales multiply inputs here and weights there: rounding of fp64 sums
        assert torch.allclose(to_plain(layer)(x), layer(x), rtol=1e-11, atol=1e-12)

    # --- sampling --------------------------------------------------------------------------------

    def test_moments_are_those_of_the_response_to_each_weight(self, fields):
        layer = self.make(fields, scale=self.perturbed_scale(self.inputs(fields)))
        x = self.example()
        with shared_draws([layer.scale], len(x)), torch.no_grad():
            factor = layer.scale.draw(len(x))
            torch.manual_seed(1)
            sampled = layer(x)
        torch.manual_seed(1)
        noise = torch.randn_like(sampled)

        plain = self.plain(**{**fields, "bias": False}, dtype=torch.float64)
        scaled = x * factor.reshape(*factor.shape, *[1] * (x.dim() - 2))

        def respond(weight: Tensor) -> Tensor:
            return torch.func.functional_call(plain, {"weight": weight}, (scaled,))

        with torch.no_grad():
            mean, variance = reference.moments_by_basis(
                respond, layer.weight_mean, layer.weight_log_variance().exp()
            )
            if layer.bias_mean is not None:
                space = [1] * (mean.dim() - 2)
                mean = mean + layer.bias_mean.reshape(-1, *space)
                variance = variance + layer.bias_logvar.exp().reshape(-1, *space)
            expected = mean + (variance + layer.variance_eps).sqrt() * noise
        assert torch.allclose(sampled, expected, rtol=1e-10, atol=1e-12)

    def test_train_samples_and_eval_does_not(self, fields):
        layer, x = self.make(fields), self.example()
        assert not torch.equal(layer(x), layer(x))
        layer.eval()
        state = torch.get_rng_state()
        assert torch.equal(layer(x), layer(x))
        assert torch.equal(torch.get_rng_state(), state)

    def test_sampling_in_eval_is_asked_for_and_ends(self, fields):
        layer, x = self.make(fields).eval(), self.example()
        with pytest.raises(KeyError), sampling(layer):  # noqa: PT012  the block is what is tested
            assert not torch.equal(layer(x), layer(x))
            raise KeyError
        assert torch.equal(layer(x), layer(x))

    def test_a_single_example_may_come_without_a_batch_axis(self, fields):
        layer = self.make(fields, scale=self.perturbed_scale(self.inputs(fields)))
        x = self.example(batch=1)
        torch.manual_seed(3)
        batched = layer(x)
        torch.manual_seed(3)
        assert torch.allclose(layer(x[0]), batched[0], rtol=1e-12)
        layer.eval()
        assert torch.allclose(layer(x[0]), layer(x)[0], rtol=1e-12)

    def test_a_unit_scale_is_no_scale(self, fields):
        layer, x = self.make(fields), self.example()
        with_unit = copy.deepcopy(layer)
        with_unit.scale_uses = [ScaleUse(UnitScale(self.inputs(fields)))]
        outputs = []
        for one in (layer, with_unit):
            torch.manual_seed(5)
            outputs.append(one(x))
        assert torch.equal(*outputs)

    def test_two_scales_multiply(self, fields):
        units = self.inputs(fields)
        a, b = self.perturbed_scale(units), self.perturbed_scale(1, GroupHorseshoe)
        index = torch.zeros(units, dtype=torch.long)
        layer = self.make(fields, scale_uses=[ScaleUse(a), ScaleUse(b, index)]).eval()
        factor = (a.mean() * b.mean()).reshape(units, *[1] * (len(self.shape) - 1))
        x = self.example()
        expected = from_plain(to_plain(self.without_scales(layer))).eval()(x * factor)
        assert torch.allclose(layer(x), expected, rtol=1e-12)

    def without_scales(self, layer: VariationalLayer) -> VariationalLayer:
        bare = copy.deepcopy(layer)
        bare.scale_uses = []
        return bare

    # --- gradients and tails -----------------------------------------------------------------------

    def test_gradients_are_those_of_finite_differences(self):
        fields = self.cases[-1]
        layer = self.make(fields, scale=self.perturbed_scale(self.inputs(fields)))
        x = self.example(batch=1).requires_grad_()
        names = [name for name, _ in layer.named_parameters()]
        values = [p.detach().clone().requires_grad_() for p in layer.parameters()]
        weights = torch.randn_like(layer(x).detach())

        def run(x: Tensor, *values: Tensor) -> Tensor:
            torch.manual_seed(11)
            named = dict(zip(names, values, strict=True))
            return (torch.func.functional_call(layer, named, (x,)) * weights).sum()

        # one number out, in a random direction of all inputs at once
        assert torch.autograd.gradcheck(run, (x, *values), fast_mode=True)

    @pytest.mark.parametrize("logvar", [-40.0, 40.0])
    def test_gradients_are_finite_at_extreme_log_variances_in_fp32(self, fields, logvar: float):
        scale = GroupJeffreys(self.inputs(fields))
        layer = self.kind(**fields, scale=scale, variances=self.variances)
        with torch.no_grad():
            parts = layer.parameters_of("weight")[1:]
            for part in parts:
                part.fill_(logvar / len(parts))
            if layer.bias_logvar is not None:
                layer.bias_logvar.fill_(logvar)
        x = self.example(dtype=torch.float32)
        x[0] = 0.0  # nothing but eps under the root where there is no bias
        x.requires_grad_()
        (layer(x).sum() + layer.kl_nats()).backward()
        assert torch.isfinite(x.grad).all()
        assert all(torch.isfinite(p.grad).all() for p in layer.parameters())

    def test_frozen_parameters_get_no_gradient(self):
        layer = self.make(self.cases[0])
        for parameter in layer.parameters_of("weight"):
            parameter.requires_grad_(False)
        (layer(self.example()).sum() + layer.kl_nats()).backward()
        assert all(p.grad is None for p in layer.parameters_of("weight"))
        assert layer.bias_mean.grad is not None

    def test_bf16_autocast_runs_forward_and_backward_with_an_fp32_kl(self, fields):
        scale = GroupJeffreys(self.inputs(fields))
        layer = self.kind(**fields, scale=scale, variances=self.variances)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = layer(self.example(dtype=torch.float32))
            kl = layer.kl_nats()
        assert y.dtype == torch.bfloat16
        assert kl.dtype == torch.float32
        (y.float().sum() + kl).backward()
        assert all(torch.isfinite(p.grad).all() for p in layer.parameters())

    # --- KL ------------------------------------------------------------------------------------------

    def test_kl_is_that_of_weights_and_bias_plus_an_own_scale(self, fields):
        scale = self.perturbed_scale(self.inputs(fields))
        layer = self.make(fields, scale=scale)
        expected = sum(
            reference.kl_normal(mean.detach().numpy(), logvar.detach().numpy())
            for mean, logvar in zip(*layer.posterior(), strict=True)
        )
        assert layer.weight_kl_nats().item() == pytest.approx(expected, rel=1e-12)
        assert layer.kl_nats().item() == pytest.approx(expected + scale.kl_nats().item(), rel=1e-12)

    def test_kl_leaves_scales_of_others_to_them(self, fields):
        scale = GroupJeffreys(self.inputs(fields))
        layer = self.make(fields, scale_uses=[ScaleUse(scale)])
        assert torch.equal(layer.kl_nats(), layer.weight_kl_nats())
        assert not [name for name, _ in layer.named_parameters() if "z_" in name]

    # --- housekeeping ----------------------------------------------------------------------------------

    def test_clamp_moves_log_variances_only(self):
        layer = self.make(self.cases[0], logvar_min=-9.5, logvar_max=-8.5)
        means = layer.weight_mean.detach().clone()
        layer.clamp_()
        assert layer.weight_log_variance().min() >= -9.5 - 1e-12
        assert layer.weight_log_variance().max() <= -8.5 + 1e-12
        assert torch.equal(layer.weight_mean, means)

    def test_copies_and_pickles_compute_the_same(self, fields):
        layer = self.make(fields, scale=self.perturbed_scale(self.inputs(fields))).eval()
        x = self.example()
        for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            assert torch.equal(copied(x), layer(x))
            assert copied.scale_uses[0].scale is copied.scale
            assert copied.scale is not layer.scale

    def test_a_scale_of_the_wrong_size_is_refused(self, fields):
        units = self.inputs(fields)
        with pytest.raises(ConfigError, match=f"covers {units + 1} inputs.*expected {units}"):
            self.make(fields, scale=GroupJeffreys(units + 1))

    def test_an_index_to_a_unit_that_is_not_there_is_refused(self):
        units = self.inputs(self.cases[0])
        index = torch.arange(units)
        with pytest.raises(ConfigError, match="index with units"):
            self.make(self.cases[0], scale_uses=[ScaleUse(GroupJeffreys(units - 1), index)])

    def test_the_same_scale_twice_is_refused(self):
        use = ScaleUse(GroupJeffreys(self.inputs(self.cases[0])))
        with pytest.raises(ConfigError, match="same scale twice"):
            self.make(self.cases[0], scale_uses=[use, use])
