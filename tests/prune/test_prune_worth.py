"""What a unit is worth, where its noise rests for that, and how the data say it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from epigram.convert import bayesianize
from epigram.maths.kl import kl_log_uniform
from epigram.prune import removability_at_rest, unit_worths, worth_nats
from epigram.prune.shrinking import SUGGESTED_CUT


def rest_of(worth: float) -> float:
    """Where log alpha comes to rest: the loss of one unit, minimised over mean and noise by brute force.

    A unit enters the NLL of all N examples as -g z + h z² / 2 with z ~ N(m, m² alpha); worth is g²/2h.
    """
    g, h = 1.0, 1.0 / (2 * worth)
    log_alpha = torch.linspace(-8, 8, 3201, dtype=torch.float64)[:, None]
    m = g / h * torch.logspace(-5, 0.1, 4001, dtype=torch.float64)
    nll = -g * m + 0.5 * h * m.square() * (1 + log_alpha.exp())
    loss = (nll + kl_log_uniform(log_alpha)).min(dim=1).values
    return float(log_alpha[int(loss.argmin())])


@pytest.mark.parametrize("log_alpha", [-4.0, -1.0, 0.0, 1.0, 2.0])
def test_a_unit_of_that_worth_comes_to_rest_there(log_alpha: float) -> None:
    # the grid's step is 0.005, and the loss is flat: at log alpha 2, to 1e-4 nats within 0.1
    assert rest_of(worth_nats(log_alpha)) == pytest.approx(log_alpha, abs=0.1)


def test_what_stays_beyond_the_cut_is_worth_next_to_nothing() -> None:
    assert worth_nats(SUGGESTED_CUT["group-jeffreys"]) < 0.6
    assert rest_of(0.45) == pytest.approx(8.0)  # the end of the grid: no resting place at all


def test_at_rest_is_the_inverse_but_for_the_smaller_term() -> None:
    for log_alpha in (-8.0, -5.0, -4.0):
        found = removability_at_rest(np.array([worth_nats(log_alpha)]))
        assert found[0] == pytest.approx(log_alpha, abs=0.06)


def test_the_worth_is_that_of_gradients_taken_one_by_one() -> None:
    """Against a loop over examples and units that knows nothing of draws."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4, 3)
    ).double()
    twin = bayesianize(network, torch.randn(2, 2, 4, 4, dtype=torch.float64))
    twin.scale("0").z_mean.data.uniform_(0.5, 1.5)
    for layer in (twin.network[0], twin.network[4]):
        for name, parameter in layer.named_parameters():
            if name.endswith("_logvar"):
                parameter.data.fill_(-60.0)  # no noise: the sampled network is the mean one
    x, y = torch.randn(6, 2, 4, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])
    found = unit_worths(twin, [(x[:4], y[:4]), (x[4:], y[4:])])["0"]
    twin.eval()
    squares = torch.zeros(4, dtype=torch.float64)
    z = twin.scale("0").z_mean
    for one, target in zip(x, y, strict=True):
        (slope,) = torch.autograd.grad(F.cross_entropy(twin(one[None]), target[None]), z)
        squares += (slope * z.detach()).square()
    assert found == pytest.approx((0.5 * squares / 6).numpy(), rel=2e-3)  # variance_eps is noise
    assert all(p.grad is None for p in twin.parameters())


def test_a_unit_that_nobody_reads_is_worth_nothing() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    network[2].weight.data[:, 2] = 0.0
    twin = bayesianize(network, torch.randn(2, 4))
    worth = unit_worths(twin, [(torch.randn(64, 4), torch.randint(0, 3, (64,)))])["0"]
    assert worth[2] < 1e-3 * np.delete(worth, 2).min()
    assert twin.training
