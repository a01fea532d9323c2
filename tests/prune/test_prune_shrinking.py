"""A unit goes after it has been noise for long enough, and not before."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from epigram.convert import Twin, bayesianize
from epigram.maths.kl import kl_log_uniform
from epigram.prune import PruneSettings, Shrinker
from epigram.prune.shrinking import SUGGESTED_CUT, worth_nats

NOISE, NEEDED = 5.0, -5.0


def set_(twin: Twin, values: list[float]) -> None:
    """log alpha of the hidden units."""
    scale = twin.scale("0")
    scale.z_logvar.data.copy_(torch.tensor(values) + 2 * scale.z_mean.data.abs().log())


@pytest.fixture
def twin() -> Twin:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    made = bayesianize(network, torch.randn(2, 4))
    made.scale("0.positions").z_logvar.data.fill_(-9.0)
    return made


def test_patience_and_one_good_epoch_starts_it_anew(twin: Twin) -> None:
    shrinker = Shrinker("group-jeffreys", PruneSettings(shrink_patience=2))
    set_(twin, [NOISE, NOISE, NEEDED])
    assert shrinker.step(twin) == []
    set_(twin, [NEEDED, NOISE, NEEDED])  # unit 0 recovers
    cuts = shrinker.step(twin)
    assert cuts
    assert {c.index.tolist() == [0, 2] for c in cuts} == {True}
    assert twin.kept_masks()["0"].tolist() == [True, False, True]
    set_(twin, [NOISE, NEEDED])
    assert shrinker.step(twin) == []  # its count started anew
    assert shrinker.counts["0"].tolist() == [1, 0]
    assert shrinker.step(twin)
    assert twin.kept_masks()["0"].tolist() == [False, False, True]


def test_the_last_unit_stays_however_noisy(twin: Twin) -> None:
    shrinker = Shrinker("group-jeffreys", PruneSettings(shrink_patience=1))
    set_(twin, [6.0, 5.0, 7.0])
    shrinker.step(twin)
    assert twin.kept_masks()["0"].tolist() == [False, True, False]
    for _ in range(3):
        assert shrinker.step(twin) == []
    assert twin.units_kept()["0"] == (1, 3)


def test_counts_carried_over_a_resume_give_the_same_removal(twin: Twin) -> None:
    settings = PruneSettings(shrink_patience=3)
    first = Shrinker("group-jeffreys", settings)
    set_(twin, [NOISE, NEEDED, NEEDED])
    first.step(twin)
    first.step(twin)
    second = Shrinker("group-jeffreys", settings)
    second.counts = {name: counts.copy() for name, counts in first.counts.items()}
    assert second.step(twin)
    assert twin.units_kept()["0"] == (2, 3)
    fresh = Shrinker("group-jeffreys", settings)
    set_(twin, [NOISE, NEEDED])
    assert fresh.step(twin) == []


def test_it_can_be_switched_off_and_the_cut_be_set(twin: Twin) -> None:
    set_(twin, [NOISE, 1.0, NEEDED])
    off = Shrinker("group-jeffreys", PruneSettings(shrink=False, shrink_patience=1))
    assert off.step(twin) == []
    low = Shrinker("group-jeffreys", PruneSettings(shrink_cut=0.5, shrink_patience=1))
    low.step(twin)
    assert twin.units_kept()["0"] == (1, 3)


def test_a_scale_fixed_at_one_never_goes() -> None:
    twin = bayesianize(
        nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), torch.ones(2, 4), "unit"
    )
    shrinker = Shrinker("unit", PruneSettings(shrink_patience=1))
    assert shrinker.step(twin) == []
    assert not np.isnan(twin.removability()["0"]).any()


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
