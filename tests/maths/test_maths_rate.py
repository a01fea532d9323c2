"""Code lengths against quadrature in high precision, in the bulk and far out in the tails."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from epigram import codec
from epigram.maths.rate import (
    LOG_SCALE_MAX,
    LOG_SCALE_MIN,
    laplace_bin_log_mass,
    mixture_bits,
    rounded,
    writable,
)


def exact(symbol: float, log_scale: float) -> float:
    """ln of the Laplace mass of the bin, from the distribution function in 60 digits."""
    with mpmath.workdps(60):
        b = mpmath.exp(log_scale)

        def below(x):
            return mpmath.exp(x / b) / 2 if x < 0 else 1 - mpmath.exp(-x / b) / 2

        q = mpmath.mpf(abs(symbol))
        if q >= 0.5:  # the upper tail, where 1 - (1 - tiny) would lose its digits
            mass = (mpmath.exp(-(q - 0.5) / b) - mpmath.exp(-(q + 0.5) / b)) / 2
        else:
            mass = below(q + 0.5) - below(q - 0.5)
        return float(mpmath.log(mass))


@given(
    st.floats(-1000, 1000, allow_nan=False),
    st.floats(LOG_SCALE_MIN, LOG_SCALE_MAX, allow_nan=False),
)
def test_the_mass_of_a_bin_is_that_of_the_distribution(symbol, log_scale):
    got = laplace_bin_log_mass(
        torch.tensor(symbol, dtype=torch.float64), torch.tensor(log_scale, dtype=torch.float64)
    )
    assert float(got) == pytest.approx(exact(symbol, log_scale), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("log_scale", [LOG_SCALE_MIN, -1.0, 0.0, 2.0, 4.0])
def test_masses_of_all_symbols_sum_to_one(log_scale):
    reach = int(40 * math.exp(log_scale)) + 20
    symbols = torch.arange(-reach, reach + 1, dtype=torch.float64)
    masses = laplace_bin_log_mass(symbols, torch.tensor(log_scale, dtype=torch.float64)).exp()
    assert float(masses.sum()) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_symbol_is_too_far_out_for_a_finite_code_length_and_gradient(dtype):
    symbols = torch.tensor([0.0, 0.49999, 0.5, 0.50001, 1.0, 1e3, 1e6, -1e9], dtype=dtype)
    for low in (LOG_SCALE_MIN, LOG_SCALE_MAX):
        q = symbols.clone().requires_grad_(True)
        scales = [torch.tensor(low, dtype=dtype, requires_grad=True) for _ in range(2)]
        weights = torch.log_softmax(torch.tensor([3.0, -3.0], dtype=dtype), 0)
        bits = mixture_bits(q, weights, scales)
        bits.sum().backward()
        assert torch.isfinite(bits).all() and (bits >= 0).all()
        assert torch.isfinite(q.grad).all()
        assert float(q.grad.abs().max()) <= 2.1 * math.exp(-LOG_SCALE_MIN) / math.log(2)
        assert all(torch.isfinite(s.grad) for s in scales)


def test_the_gradient_is_that_of_the_code_length():
    q = torch.tensor([-2.7, -0.4, 0.2, 0.7, 5.1], dtype=torch.float64, requires_grad=True)
    scales = [torch.tensor(s, dtype=torch.float64, requires_grad=True) for s in (-0.5, 1.2)]
    mix = torch.tensor([0.3, -0.2], dtype=torch.float64, requires_grad=True)

    def bits(q, mix, *scales):
        return mixture_bits(q, torch.log_softmax(mix, 0), scales)

    assert torch.autograd.gradcheck(bits, (q, mix, *scales))


def test_noise_makes_the_mean_code_length_an_upper_bound_of_the_bin():
    """E over the bin of -log2 (p * box) is at least -log2 of the mass averaged over it (Jensen)."""
    q = torch.linspace(-0.5, 0.5, 2001, dtype=torch.float64) + 3.0
    scale = torch.tensor(0.3, dtype=torch.float64)
    lengths = -laplace_bin_log_mass(q, scale)
    averaged = -torch.log(laplace_bin_log_mass(q, scale).exp().mean())
    assert float(lengths.mean()) >= float(averaged)


def test_rounding_passes_gradients_through():
    x = torch.tensor([0.4, 1.6, -2.5], requires_grad=True)
    y = rounded(x)
    assert y.tolist() == [0.0, 2.0, -2.0]
    y.sum().backward()
    assert x.grad.tolist() == [1.0, 1.0, 1.0]


@given(st.floats(1e-30, 1e30, allow_nan=False))
def test_a_writable_step_is_one_that_the_file_can_say(step):
    got = writable(torch.tensor(step, dtype=torch.float64))
    assert float(got) == pytest.approx(codec.representable_step(step), rel=1e-15)


def test_a_step_learns_as_if_it_were_not_rounded():
    step = torch.tensor(0.123, requires_grad=True)
    writable(step).backward()
    assert float(step.grad) == 1.0
