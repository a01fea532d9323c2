"""The objective against arithmetic on paper, and the N people really pass."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
import torch

from epigram.errors import ConfigError
from epigram.objective import (
    ELBO,
    check_num_train_examples,
    kl_in_fp32,
    kl_warmup,
    negative_elbo,
    steered,
)


class Twin:
    def __init__(self, kl: torch.Tensor) -> None:
        self.kl = kl

    def kl_nats(self) -> torch.Tensor:
        return self.kl


@pytest.mark.parametrize(
    ("nll", "kl", "n", "weight"),
    [
        (0.25, 5000.0, 50_000, 1.0),
        (2.3, 1.35e6, 50_000, 0.1),
        (0.0, 1e9, 7, 3.0),
        (1.0, 0.0, 1, 0.0),
    ],
)
def test_value_is_nll_plus_weighted_kl_over_n(nll: float, kl: float, n: int, weight: float) -> None:
    exact = Fraction(nll) + Fraction(weight) * Fraction(kl) / n
    nll_, kl_ = (torch.tensor(v, dtype=torch.float64) for v in (nll, kl))
    got = negative_elbo(nll_, kl_, num_train_examples=n, kl_weight=weight)
    # three roundings in fp64
    assert got.item() == pytest.approx(float(exact), rel=4 * 2.0**-53)


def test_gradients_weigh_likelihood_and_kl() -> None:
    nll = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    kl = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    negative_elbo(nll, kl, num_train_examples=400, kl_weight=0.5).backward()
    assert nll.grad.item() == 1.0
    assert kl.grad.item() == pytest.approx(0.5 / 400, rel=1e-15)


def test_half_precision_is_widened_before_it_is_added() -> None:
    nll = torch.tensor(0.5, dtype=torch.bfloat16)
    loss = negative_elbo(nll, torch.tensor(100.0), num_train_examples=50_000)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(0.502, abs=1e-6)  # in bf16 it would stay 0.5


def test_elbo_asks_the_twin_for_its_kl() -> None:
    elbo = ELBO(Twin(torch.tensor(30.0)), 10, train_set_size=10)
    assert elbo(torch.tensor(1.0)).item() == 4.0
    elbo.kl_weight = 0.5
    assert elbo(torch.tensor(1.0)).item() == 2.5


def test_kl_is_in_fp32_under_autocast() -> None:
    class Multiplies:
        def kl_nats(self) -> torch.Tensor:
            return (torch.full((1, 300), 1.001) @ torch.full((300, 1), 1.001)).squeeze()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert Multiplies().kl_nats().dtype == torch.bfloat16
        kl = kl_in_fp32(Multiplies())
        assert torch.is_autocast_enabled("cpu")
    assert kl.dtype == torch.float32
    assert kl.item() == pytest.approx(300.6003, rel=1e-5)


@pytest.mark.parametrize("batch_size", [128, 100, 64])
@pytest.mark.parametrize("drop_last", [False, True])
def test_the_number_of_minibatches_is_refused_and_named(batch_size: int, drop_last: bool) -> None:
    count = 50_000 // batch_size if drop_last else math.ceil(50_000 / batch_size)
    with pytest.raises(ConfigError, match=f"minibatches of {batch_size}.*50000"):
        ELBO(Twin(torch.tensor(0.0)), count, train_set_size=50_000)


def test_the_loop_knows_its_batch_size() -> None:
    with pytest.raises(ConfigError, match="minibatches of 96"):
        check_num_train_examples(521, train_set_size=50_000, batch_size=96)
    with pytest.raises(ConfigError, match=r"got 391, expected 50000") as caught:
        check_num_train_examples(391, train_set_size=50_000, batch_size=96)
    assert "minibatches" not in str(caught.value)


def test_other_wrong_numbers_are_refused() -> None:
    with pytest.raises(ConfigError, match="got 60000, expected 50000"):
        check_num_train_examples(60_000, train_set_size=50_000)
    for wrong in (0, -5):
        with pytest.raises(ConfigError, match="whole number >= 1"):
            negative_elbo(torch.tensor(0.0), torch.tensor(0.0), num_train_examples=wrong)
    for weight in (-1.0, math.nan, math.inf):
        with pytest.raises(ConfigError, match="kl_weight"):
            negative_elbo(
                torch.tensor(0.0), torch.tensor(0.0), num_train_examples=1, kl_weight=weight
            )


def test_a_data_set_of_one_per_batch_is_no_false_alarm() -> None:
    check_num_train_examples(50_000, train_set_size=50_000, batch_size=1)


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_warmup_grows_from_nothing_to_all(shape: str) -> None:
    weights = [kl_warmup(k / 10, 5.0, shape) for k in range(80)]
    assert weights[0] == 0.0
    assert weights[25] == pytest.approx(0.5, abs=1e-12)
    assert all(w == 1.0 for w in weights[50:])
    assert all(a <= b for a, b in itertools.pairwise(weights))


def test_warmup_shapes() -> None:
    assert kl_warmup(1.0, 4.0, "linear") == 0.25
    assert kl_warmup(1.0, 4.0, "cosine") == pytest.approx((1 - math.sqrt(0.5)) / 2, abs=1e-15)
    assert kl_warmup(0.0, 0.0) == 1.0
    with pytest.raises(ConfigError, match="kl_warmup_epochs"):
        kl_warmup(0.0, -1.0)
    with pytest.raises(ConfigError, match="kl_warmup_epochs"):
        kl_warmup(0.0, math.nan)


def test_steering_settles_on_the_floor() -> None:
    """A metric that falls with the log of the KL weight is brought to its floor from either side."""
    for start in (1e-2, 1e2):
        multiplier = start
        for _ in range(60):
            metric = 0.985 - 0.004 * math.log10(multiplier / 0.3)
            multiplier = steered(multiplier, margin=metric - 0.982, width=0.002)
        assert metric == pytest.approx(0.982, abs=1e-4)


def test_steering_is_bounded_monotone_and_wary_of_nan() -> None:
    margins = [-1.0, -0.01, -0.001, 0.0, 0.001, 0.01, 1.0]
    moved = [steered(2.0, margin=m, width=0.002) for m in margins]
    assert moved == sorted(moved)
    assert moved[3] == 2.0
    assert moved[-1] == pytest.approx(2.0 * math.exp(0.5))
    assert steered(2.0, margin=math.nan, width=0.002) == pytest.approx(2.0 * math.exp(-0.5))
    assert steered(2.0, margin=1.0, width=0.1, most=2.5) == 2.5
    assert steered(2.0, margin=-1.0, width=0.1, least=1.9) == 1.9
    with pytest.raises(ConfigError, match="width 0"):
        steered(2.0, margin=0.0, width=0.0)
