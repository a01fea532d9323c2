"""A unit goes after it has been noise for long enough, and not before."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from epigram.convert import Twin, bayesianize
from epigram.prune import PruneSettings, Shrinker

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
