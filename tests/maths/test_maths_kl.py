"""Divergences against series, quadrature and finite differences, and in their tails."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from tests.reference import maths_reference as reference

from epigram.maths.kl import (
    kl_log_uniform,
    kl_lognormal_gamma,
    kl_lognormal_inverse_gamma,
    kl_normal_jeffreys,
    kl_standard_normal,
    sum_kl_standard_normal,
)
from epigram.maths.special import log_alpha


def test_standard_normal_kl_is_the_one_from_expected_log_densities():
    rng = np.random.default_rng(0)
    mean, logvar = rng.normal(size=(4, 7)), rng.uniform(-6, 3, size=(4, 7))
    ours = kl_standard_normal(torch.tensor(mean), torch.tensor(logvar)).item()
    # fp64, 28 terms: rounding only
    assert ours == pytest.approx(reference.kl_normal(mean, logvar), rel=1e-13)


def test_standard_normal_kl_keeps_its_digits_next_to_the_prior():
    # KL is logvar^2 / 4 + mean^2 / 2 to leading order; var - 1 - logvar would lose every digit in fp32
    logvar = torch.full((1000,), 1e-3)
    got = kl_standard_normal(torch.zeros(1000), logvar).item()
    # each of the two sums of 1000 terms of 1e-3 is rounded to 1 part in 2^24
    assert got == pytest.approx(1000 * (math.expm1(1e-3) - 1e-3) / 2, abs=1e-6)


def test_standard_normal_kl_has_the_right_gradients():
    mean = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    logvar = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    other = torch.randn(2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda m, v, o: sum_kl_standard_normal([m, o], [v, 2.0 * o]), (mean, logvar, other)
    )


def test_standard_normal_kl_has_the_same_gradients_when_walked_twice():
    mean, logvar = torch.randn(5, requires_grad=True), torch.randn(5, requires_grad=True)
    kl = kl_standard_normal(mean, logvar)
    once = torch.autograd.grad(kl, (mean, logvar), retain_graph=True)
    kept = [gradient.clone() for gradient in once]
    twice = torch.autograd.grad(2.0 * kl, (mean, logvar))
    for a, b, c in zip(kept, once, twice, strict=True):
        assert torch.equal(a, b)
        assert torch.allclose(2.0 * a, c, rtol=1e-6)


def test_standard_normal_kl_leaves_frozen_tensors_alone():
    mean, logvar = torch.randn(5), torch.zeros(5, requires_grad=True)
    kl_standard_normal(mean, logvar).backward()
    assert mean.grad is None
    assert logvar.grad is not None


@pytest.mark.parametrize("logvar", [-40.0, 40.0])
def test_standard_normal_kl_is_finite_in_the_tails_in_fp32(logvar: float):
    mean = torch.full((3,), 1e3, requires_grad=True)
    v = torch.full((3,), logvar, requires_grad=True)
    kl = kl_standard_normal(mean, v)
    kl.backward()
    assert math.isfinite(kl.item())
    assert torch.isfinite(mean.grad).all()
    assert torch.allclose(v.grad, 0.5 * torch.expm1(torch.full((3,), logvar)), rtol=1e-6)


def test_standard_normal_kl_is_fp32_whatever_comes_in():
    mean, logvar = torch.randn(9).bfloat16(), torch.randn(9).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        kl = kl_standard_normal(mean, logvar)
    assert kl.dtype == torch.float32
    expected = reference.kl_normal(mean.double().numpy(), logvar.double().numpy())
    assert kl.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("value", np.linspace(-8.0, 12.0, 41).tolist())
def test_log_uniform_kl_is_within_the_published_error_of_the_exact_series(value: float):
    got = kl_log_uniform(torch.tensor(value, dtype=torch.float64)).item()
    assert got == pytest.approx(reference.kl_log_uniform_series(value), abs=0.01)


def test_log_uniform_series_agrees_with_quadrature():
    # the reference itself: E log z^2 at alpha = 1 by integration, against the series
    expected, _ = reference.integrate.quad(
        lambda e: stats.norm.pdf(e) * (math.log((1 + e) ** 2) - math.log(e**2)),
        -12, 12, points=[-1.0, 0.0], limit=400,
    )  # fmt: skip
    # logarithmic singularities at -1 and 0 limit the quadrature
    assert reference.kl_log_uniform_series(0.0) == pytest.approx(0.5 * expected, abs=1e-7)


def test_log_uniform_kl_falls_monotonically_with_finite_gradients_in_fp32():
    ratio = torch.linspace(-30.0, 30.0, 601, requires_grad=True)
    kl = kl_log_uniform(ratio)
    kl.sum().backward()
    assert torch.isfinite(kl).all()
    assert torch.isfinite(ratio.grad).all()
    assert (kl.diff() < 0).all()
    assert (ratio.grad < 0).all()
    assert (ratio.grad >= -1.0).all()


def test_normal_jeffreys_kl_is_the_log_uniform_one_with_its_gradients():
    mean = torch.tensor([1.0, -0.3, 1e-3, 20.0], dtype=torch.float64, requires_grad=True)
    logvar = torch.tensor([-5.0, 2.0, -9.0, 0.0], dtype=torch.float64, requires_grad=True)
    kl = kl_normal_jeffreys(mean, logvar)
    expected = kl_log_uniform(log_alpha(mean, logvar)).sum()
    assert kl.item() == pytest.approx(expected.item(), rel=1e-14)
    ours = torch.autograd.grad(kl, (mean, logvar))
    theirs = torch.autograd.grad(expected, (mean, logvar))
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=0)


@pytest.mark.parametrize("logvar", [-40.0, 0.0, 40.0])
@pytest.mark.parametrize("mean", [0.0, 1e-20, 1e-6, 1.0, 1e6])
def test_normal_jeffreys_kl_is_finite_in_the_tails_in_fp32(mean: float, logvar: float):
    m = torch.tensor([mean], requires_grad=True)
    v = torch.tensor([logvar], requires_grad=True)
    kl = kl_normal_jeffreys(m, v)
    kl.backward()
    assert math.isfinite(kl.item())
    assert torch.isfinite(m.grad).all()
    assert torch.isfinite(v.grad).all()
    assert v.grad.item() <= 0  # more noise never costs more


_MEANS_AND_LOGVARS = [(0.0, 0.0), (-3.0, -4.0), (2.5, -1.0), (1.0, 0.7), (-12.0, -9.0)]


@pytest.mark.parametrize(("mean", "logvar"), _MEANS_AND_LOGVARS)
@pytest.mark.parametrize(("shape", "scale"), [(0.5, 1.0), (2.0, 0.3), (0.5, 1e-4)])
def test_lognormal_gamma_kl_is_the_integral(mean: float, logvar: float, shape: float, scale: float):
    mean += math.log(scale)  # keep the integral in range
    got = kl_lognormal_gamma(
        torch.tensor(mean, dtype=torch.float64),
        torch.tensor(logvar, dtype=torch.float64),
        shape=shape,
        scale=scale,
    ).item()
    expected = reference.kl_lognormal_by_quadrature(
        mean, logvar, lambda x: stats.gamma.logpdf(x, shape, scale=scale)
    )
    # 12 standard deviations of exp(t) cut off less than 1e-12 of the integral
    assert got == pytest.approx(expected, rel=1e-8, abs=1e-9)


@pytest.mark.parametrize(("mean", "logvar"), _MEANS_AND_LOGVARS)
@pytest.mark.parametrize(("shape", "scale"), [(0.5, 1.0), (2.0, 0.3)])
def test_lognormal_inverse_gamma_kl_is_the_integral(
    mean: float, logvar: float, shape: float, scale: float
):
    mean = math.log(scale) - mean
    got = kl_lognormal_inverse_gamma(
        torch.tensor(mean, dtype=torch.float64),
        torch.tensor(logvar, dtype=torch.float64),
        shape=shape,
        scale=scale,
    ).item()
    expected = reference.kl_lognormal_by_quadrature(
        mean, logvar, lambda x: stats.invgamma.logpdf(x, shape, scale=scale)
    )
    assert got == pytest.approx(expected, rel=1e-8, abs=1e-9)


def test_lognormal_kls_survive_a_tiny_scale_and_confident_posteriors_in_fp32():
    mean = torch.tensor([-23.7, 23.7, 0.0], requires_grad=True)
    logvar = torch.tensor([-40.0, -4.0, 2.0], requires_grad=True)
    kl = kl_lognormal_gamma(mean - 23.0, logvar, shape=0.5, scale=1e-10)
    kl = kl + kl_lognormal_inverse_gamma(mean + 23.0, logvar, shape=0.5, scale=1.0)
    kl.sum().backward()
    assert torch.isfinite(kl).all()
    assert torch.isfinite(mean.grad).all()
    assert torch.isfinite(logvar.grad).all()
