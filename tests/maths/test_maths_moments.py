"""Sampling of outputs and scales: exact moments, gradients, tails."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from tests.reference import maths_reference as reference

from epigram.maths.moments import (
    output_moments,
    sample_normal,
    sample_outputs,
    standard_normal_like,
)
from epigram.maths.special import (
    log_alpha,
    lognormal_log_mode,
    lognormal_mean,
    lognormal_second_moment,
)


def test_moments_of_a_linear_map_are_those_of_its_sampled_weights():
    x = torch.randn(3, 5)
    mean, logvar = torch.randn(4, 5), torch.randn(4, 5) - 1
    bias_mean, bias_logvar = torch.randn(4), torch.randn(4) - 1
    got = output_moments(F.linear, x, mean, logvar.exp(), bias_mean, bias_logvar.exp())
    draws = 40_000
    weights = mean + (0.5 * logvar).exp() * torch.randn(draws, 4, 5)
    biases = bias_mean + (0.5 * bias_logvar).exp() * torch.randn(draws, 4)
    outputs = torch.einsum("bi,doi->dbo", x, weights) + biases[:, None]
    # five standard errors of a mean and (normal outputs) of a variance over the draws
    std = outputs.std(0)
    assert ((outputs.mean(0) - got[0]).abs() < 5 * std / draws**0.5).all()
    assert ((outputs.var(0) - got[1]).abs() < 5 * std**2 * (2 / draws) ** 0.5).all()


def test_moments_of_a_convolution_are_those_of_its_response_to_each_weight():
    x = torch.randn(2, 2, 5, 5, dtype=torch.float64)
    mean = torch.randn(3, 2, 3, 3, dtype=torch.float64)
    variance = torch.rand(3, 2, 3, 3, dtype=torch.float64)

    def convolve(x, weight, bias):
        return F.conv2d(x, weight, bias, stride=2, padding=1)

    got = output_moments(convolve, x, mean, variance, None, None)
    expected = reference.moments_by_basis(lambda w: convolve(x, w, None), mean, variance)
    for a, b in zip(got, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-14)  # fp64 sums of 18 terms


def test_sampled_outputs_have_the_right_value_and_gradients():
    mean = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    variance = (torch.rand(3, 4, dtype=torch.float64) + 0.1).requires_grad_()
    noise = torch.randn(3, 4, dtype=torch.float64)

    def draw(mean, variance):  # the arguments are used up, so hand in copies
        return sample_outputs(mean.clone(), variance.clone(), noise.clone())

    expected = mean.detach().numpy() + np.sqrt(variance.detach().numpy()) * noise.numpy()
    assert np.allclose(draw(mean, variance).detach().numpy(), expected, rtol=1e-14)
    assert torch.autograd.gradcheck(draw, (mean, variance))


def test_sampled_outputs_without_a_variance_gradient():
    mean = torch.zeros(2, requires_grad=True)
    sample_outputs(mean * 1.0, torch.ones(2), torch.ones(2)).sum().backward()
    assert mean.grad.tolist() == [1.0, 1.0]


def test_normal_draws_have_the_right_value_and_gradients():
    mean = torch.randn(4, dtype=torch.float64, requires_grad=True)
    logvar = torch.randn(4, dtype=torch.float64, requires_grad=True)
    noise = torch.randn(6, 4, dtype=torch.float64)
    drawn = sample_normal(mean, logvar, noise)
    expected = mean.detach().numpy() + noise.numpy() * np.sqrt(np.exp(logvar.detach().numpy()))
    assert np.allclose(drawn.detach().numpy(), expected, rtol=1e-14)
    assert torch.autograd.gradcheck(lambda m, v: sample_normal(m, v, noise), (mean, logvar))


def test_lognormal_facts_are_those_of_scipy():
    mean, variance = -0.7, 0.6
    z = stats.lognorm(s=variance**0.5, scale=np.exp(mean))
    m, v = torch.tensor(mean, dtype=torch.float64), torch.tensor(variance, dtype=torch.float64)
    assert lognormal_mean(m, v).item() == pytest.approx(z.mean(), rel=1e-13)
    assert lognormal_second_moment(m, v).item() == pytest.approx(z.moment(2), rel=1e-9)
    mode = np.exp(lognormal_log_mode(m, v).item())
    around = z.pdf([mode * 0.999, mode, mode * 1.001])
    assert around.argmax() == 1


def test_log_alpha_is_finite_at_zero_mean_and_monotone_in_the_log_variance():
    mean = torch.zeros(3, requires_grad=True)
    ratio = log_alpha(mean, torch.tensor([-40.0, 0.0, 40.0]))
    ratio.sum().backward()
    assert torch.isfinite(ratio).all()
    assert (ratio.diff() > 0).all()
    assert mean.grad.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("layout", ["contiguous", "channels last", "neither"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_noise_has_the_shape_type_and_moments_it_should(layout: str, dtype: torch.dtype) -> None:
    like = torch.empty(40, 30, 8, 6, dtype=dtype)
    if layout == "channels last":
        like = like.contiguous(memory_format=torch.channels_last)
    elif layout == "neither":
        like = like.transpose(0, 1)
    noise = standard_normal_like(like, generator=torch.Generator().manual_seed(0))
    assert noise.shape == like.shape
    assert noise.dtype == dtype
    if layout != "neither":
        assert noise.stride() == like.stride()
    wide = noise.double()  # 57 600 numbers: standard errors 0.004 and 0.006
    assert wide.mean().item() == pytest.approx(0.0, abs=0.02)
    assert wide.var().item() == pytest.approx(1.0, abs=0.03)


def test_contiguous_noise_is_torch_s_own() -> None:
    like = torch.empty(7, 11)
    torch.manual_seed(3)
    ours = standard_normal_like(like)
    torch.manual_seed(3)
    assert torch.equal(ours, torch.randn_like(like))
