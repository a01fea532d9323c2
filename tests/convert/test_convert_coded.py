"""A network of symbols: what a reader gets, what it costs, and that training makes the file small."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from epigram import codec
from epigram.convert import CodedNetwork, CodingSettings
from epigram.convert.coded_parameter import CodedParameter
from epigram.errors import ConfigError
from epigram.objective import ELBO
from epigram.records import CodedTensor, FileContents


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
    )


def test_it_computes_what_a_reader_of_its_symbols_computes():
    coded = CodedNetwork(network())
    x = torch.randn(5, 1, 4, 4)
    plain = coded.plain()
    for mode in (True, False):
        assert torch.equal(coded.train(mode)(x), plain.train(mode)(x))
    for name, part in coded.parameters_by_name().items():
        decoded = part.symbols() * part.step
        assert np.allclose(decoded, plain.get_parameter(name).detach().numpy(), rtol=1e-6)


@pytest.mark.parametrize("amp", [False, True])
def test_the_coefficients_of_kernels_say_what_a_reader_gets(amp: bool):
    coded = CodedNetwork(network(), settings=CodingSettings(kernels="cosine", learned_steps=False))
    parts = coded.parameters_by_name()
    assert [name for name, part in parts.items() if part.cosine] == ["0.weight"]
    assert [tuple(f.shape) for f in parts["0.weight"].prior.factors] == [(1, 1, 3, 1), (1, 1, 1, 3)]
    elbo = ELBO(coded.train(), num_train_examples=10)
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        elbo(coded(torch.randn(8, 1, 4, 4)).float().square().mean()).backward()
    assert parts["0.weight"].value.grad.any() and parts["0.weight"].prior.factors[0].grad.any()
    tensors = tuple(
        CodedTensor(n, p.symbols().shape, p.symbols(), p.step, cosine=p.cosine)
        for n, p in parts.items()
    )
    read = codec.decode(codec.encode(FileContents(tensors), profile="named"))
    plain = coded.eval().plain()
    for tensor in read.tensors:
        assert np.array_equal(tensor.values(), plain.get_parameter(tensor.name).detach().numpy())


def test_coefficients_of_small_steps_keep_the_network():
    net, settings = network().eval(), CodingSettings(kernels="cosine")
    steps = {name: 1e-6 for name, _ in net.named_parameters()}
    x = torch.randn(5, 1, 4, 4)
    assert torch.allclose(
        CodedNetwork(net, steps=steps, settings=settings).eval()(x), net(x), atol=1e-3
    )


def test_small_steps_keep_the_network():
    net = network().eval()
    x = torch.randn(5, 1, 4, 4)
    coded = CodedNetwork(net, steps={name: 1e-6 for name, _ in net.named_parameters()}).eval()
    assert torch.allclose(coded(x), net(x), atol=1e-4)


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e25])
def test_a_step_follows_weights_of_any_size(size: float):
    values = torch.tensor([[3.0, 0.0], [-4.0, 0.0]]) * size
    part = CodedParameter(values)
    assert part.step == pytest.approx(12.5**0.5 * size / CodingSettings().steps_per_std, rel=0.05)


def test_the_complexity_term_is_the_code_length_in_nats():
    coded = CodedNetwork(network()).eval()
    bits = 0.0
    for part in coded.parameters_by_name().values():
        symbols = torch.from_numpy(part.symbols()).float()
        bits += float(part.prior.bits(symbols).detach().sum())
    assert float(coded.rate_bits().detach()) == pytest.approx(bits, rel=1e-5)
    assert float(coded.kl_nats().detach()) == pytest.approx(bits * math.log(2), rel=1e-5)


def test_dead_inputs_take_no_symbols_and_no_bits():
    net = network()
    live = np.arange(16) % 2 == 0
    coded, whole = CodedNetwork(net, live={"4.weight": live}).eval(), CodedNetwork(net).eval()
    symbols = coded.parameters_by_name()["4.weight"].symbols()
    assert not symbols[:, ~live].any() and symbols[:, live].any()
    assert not coded.plain()[4].weight[:, ~torch.from_numpy(live)].any()
    assert float(coded.rate_bits().detach()) < float(whole.rate_bits().detach())


def test_every_value_step_and_prior_learns_and_the_network_does_not():
    net = network()
    with torch.no_grad():
        net[1].bias.copy_(torch.randn(4))
    coded = CodedNetwork(net, settings=CodingSettings(axes=(0, 1))).train()
    elbo = ELBO(coded, num_train_examples=10)
    elbo(coded(torch.randn(8, 1, 4, 4)).square().mean()).backward()
    for name, parameter in coded.named_parameters():
        if name.startswith("network."):
            assert parameter.grad is None
        else:
            assert torch.isfinite(parameter.grad).all() and parameter.grad.any(), name
    roles = coded.named_roles()
    assert {roles[f"coded.{i}.value"] for i in range(6)} == {"mean"}
    assert roles["coded.0.log_step"] == roles["coded.0.prior.factors.1"] == "scale"
    assert not any(name.startswith("network.") for name in roles)


def test_a_matched_prior_learns_from_what_is_coded_and_values_from_noisy_symbols():
    def gradients(rate_of: str) -> tuple[CodedNetwork, float]:
        torch.manual_seed(3)
        coded = CodedNetwork(network(), settings=CodingSettings(rate_of=rate_of)).train()
        torch.manual_seed(4)
        rate = coded.rate_bits()
        rate.backward()
        return coded, float(rate.detach())

    matched, bits = gradients("matched")
    noisy, noisy_bits = gradients("noisy")
    rounded_, _ = gradients("rounded")
    assert bits == pytest.approx(noisy_bits, rel=1e-6)
    for one, other, third in zip(matched.coded, noisy.coded, rounded_.coded, strict=True):
        assert torch.allclose(one.value.grad, other.value.grad)
        assert torch.allclose(one.log_step.grad, other.log_step.grad)
        assert torch.allclose(one.prior.log_scales.grad, third.prior.log_scales.grad)
        assert not torch.allclose(one.prior.log_scales.grad, other.prior.log_scales.grad)


def test_the_file_is_that_of_the_averages_and_training_goes_on_with_the_values():
    coded = CodedNetwork(network(), settings=CodingSettings(average=0.5))
    part = coded.parameters_by_name()["4.weight"]
    start = part.value.detach().clone()
    for moved in (1.0, 3.0):
        with torch.no_grad():
            part.value.copy_(start + moved)
        coded.average_()
    averaged = start + 1.0 + (1.0 - 1.0 / 11.0) * 2.0  # the first steps weigh more
    coded.eval()
    assert torch.allclose(part.averaged_value, averaged)
    assert np.array_equal(part.symbols(), torch.round(averaged / part.step).int().numpy())
    coded.train()
    assert np.array_equal(part.symbols(), torch.round((start + 3.0) / part.step).int().numpy())


def test_another_layout_can_be_taken_on():
    net = network()
    small = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)
    )
    live = np.arange(8) % 2 == 0
    settings = CodingSettings(axes=(0,))
    one = CodedNetwork(
        small, settings=settings, live={"4.weight": live}, fixed=["1.weight"], settled=["1"]
    )
    other = CodedNetwork(net, settings=settings)
    other.lay_out_(one.layout())
    other.load_state_dict(one.state_dict())
    x = torch.randn(3, 1, 4, 4)
    assert torch.equal(one.eval()(x), other.eval()(x))
    assert not other.parameters_by_name()["1.weight"].value.requires_grad
    assert not other.train().network[1].training


def test_training_by_the_rate_makes_the_file_small():
    """Values nobody needs go to zero, and the predicted rate is near what the coder takes."""
    torch.manual_seed(1)
    teacher = nn.Linear(40, 20)
    with torch.no_grad():
        teacher.weight[:, 10:] = 0.0
        teacher.bias.zero_()
    start = nn.Linear(40, 20)
    start.load_state_dict(teacher.state_dict())
    with torch.no_grad():
        start.weight.add_(0.02 * torch.randn_like(start.weight))
    coded = CodedNetwork(start, settings=CodingSettings(axes=(1,))).train()
    fast = [p for n, p in coded.named_parameters() if p.requires_grad and not n.endswith("value")]
    slow = [p for n, p in coded.named_parameters() if n.endswith("value")]
    optimizer = torch.optim.Adam([{"params": slow, "lr": 3e-3}, {"params": fast, "lr": 2e-2}])
    before = size_of(coded)
    elbo = ELBO(coded, num_train_examples=20_000)
    for _ in range(300):
        x = torch.randn(64, 40)
        optimizer.zero_grad()
        elbo(50.0 * (coded(x) - teacher(x)).square().mean()).backward()
        optimizer.step()
        coded.clamp_()
    coded.eval()
    assert size_of(coded) < 0.7 * before
    assert coded.effective_parameters() < 300
    assert float(coded.rate_bits().detach()) / 8 == pytest.approx(size_of(coded), rel=0.2, abs=25)


def size_of(coded: CodedNetwork) -> float:
    parts = coded.parameters_by_name()
    tensors = tuple(
        CodedTensor(n, p.symbols().shape, p.symbols(), codec.representable_step(p.step))
        for n, p in parts.items()
    )
    return codec.size_estimate(FileContents(tensors), "bare").total


def test_nothing_leaves_it_and_bad_names_are_refused():
    coded = CodedNetwork(network())
    assert coded.shrink_({}) == [] and coded.units_kept() == coded.removability() == {}
    with pytest.raises(ConfigError, match="expected none"):
        coded.shrink_({"conv": np.ones(4, bool)})
    with pytest.raises(ConfigError, match="'nobody' is not among the parameters"):
        CodedNetwork(network(), steps={"nobody": 1.0})
    with pytest.raises(ConfigError, match="got step 0"):
        CodedNetwork(network(), steps={"4.weight": 0.0})
    with pytest.raises(ConfigError, match="axes: got"):
        CodingSettings(axes=(3,))


def test_symbols_that_go_back_and_forth_are_frozen_at_their_mean():
    coded = CodedNetwork(nn.Linear(3, 1, bias=False), settings=CodingSettings(average=0.0))
    part = coded.parameters_by_name()["weight"]
    step = part.step
    for i in range(200):
        with (
            torch.no_grad()
        ):  # the first is always 2; the second 3, now and then 4; the third moves once
            part.value.copy_(
                step * torch.tensor([[2.0, 3.4 + 0.2 * (i % 4 == 0), 0.0 if i < 150 else 1.0]])
            )
        coded.watch_(math.inf if i < 190 else 0.05)
    assert part.frozen.tolist() == [[0.0, 1.0, 0.0]]
    with torch.no_grad():
        part.value.copy_(step * torch.tensor([[2.0, 9.0, 1.0]]))
    assert part.symbols().tolist() == [[2, 3, 1]]
    assert coded.frozen_share() == pytest.approx(1 / 3)
    coded.train()(torch.ones(1, 3)).sum().backward()
    assert part.value.grad.tolist()[0][1] == 0.0 and part.value.grad[0, 0] != 0.0
    coded.thaw_()  # the frozen one goes on from where it stood, not from where its value drifted
    assert part.symbols().tolist() == [[2, 3, 1]] and coded.frozen_share() == 0.0
    with torch.no_grad():
        part.value.copy_(step * torch.tensor([[2.0, 9.0, 1.0]]))
    assert part.symbols().tolist() == [[2, 9, 1]]


def test_the_longer_the_fewer_changes_are_allowed():
    settings = CodingSettings(freeze_from=0.4)
    rates = [settings.freezing_rate(done) for done in (0.0, 0.39, 0.4, 0.7, 0.97, 1.0)]
    assert rates[:2] == [math.inf, math.inf]
    assert rates[2:] == sorted(rates[2:], reverse=True) and rates[-1] < 0.01 < rates[2]
    assert CodingSettings(freeze_from=1.0).freezing_rate(1.0) == math.inf
