"""Round numbers of rows are left, during training and by the cut, where the settings ask for them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.convert.convert_networks import made
from torch import nn

from epigram.convert import Twin, bayesianize
from epigram.errors import ConfigError
from epigram.prune import PruneSettings, Shrinker, choose_cut
from epigram.prune.masks import rounded
from epigram.records import Floor


def perceptron() -> Twin:
    """Twelve units of log alpha -6 ... 5."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 3))
    twin = bayesianize(network, torch.randn(2, 4), "group-jeffreys")
    scale = twin.scale("0")
    scale.z_logvar.data.copy_(torch.arange(-6.0, 6.0) + 2 * scale.z_mean.data.abs().log())
    return twin


@pytest.mark.parametrize(("round_to", "left"), [(1, 5), (4, 8), (8, 8), (5, 5), (16, 12)])
def test_the_cut_leaves_a_multiple_or_all(round_to: int, left: int) -> None:
    """Five units would do."""
    settings = PruneSettings(round_to=round_to)
    decision = choose_cut(
        perceptron(), lambda net: net[0].out_features / 10, Floor("accuracy", 0.5), settings
    )
    assert decision.chosen.keep["0"].tolist() == [True] * left + [False] * (12 - left)


def test_training_removes_as_many_as_leave_a_multiple() -> None:
    twin = perceptron()
    shrinker = Shrinker(
        "group-jeffreys", PruneSettings(shrink_patience=1, shrink_cut=-3.5, round_to=4)
    )
    shrinker.step(twin)
    assert twin.units_kept()["0"] == (4, 12)
    twin = perceptron()
    shrinker = Shrinker(
        "group-jeffreys", PruneSettings(shrink_patience=1, shrink_cut=2.5, round_to=8)
    )
    assert shrinker.step(twin) == [] and twin.units_kept()["0"] == (12, 12)


def test_units_that_come_back_bring_their_positions() -> None:
    network, x = made("lenet-5")
    twin = bayesianize(network, x)
    group = twin.structure.groups[1]
    key = next(f"{a.name}.positions" for a in twin.structure.positions if a.group == group.name)
    keep = {name: np.ones(units, bool) for name, (units, _) in twin.units_kept().items()}
    keep[group.name][1:] = False
    owner = twin.position_owners(key)
    keep[key] &= keep[group.name][owner]
    order = {name: np.arange(len(mask)) for name, mask in keep.items()}
    found = rounded(twin, keep, order, 4)
    assert np.flatnonzero(found[group.name]).tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(found[key], owner < 4)


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(16, 4, 24, 0.0, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


def test_heads_count_by_their_width() -> None:
    """Three heads of four rows for queries, keys and values: 36 rows are a multiple of four."""
    twin = bayesianize(Attending(), torch.randn(2, 5, 16))
    keep = {name: np.ones(units, bool) for name, (units, _) in twin.units_kept().items()}
    keep["layer.self_attn"][0] = False
    keep["layer.linear1"][:3] = False
    order = {name: np.arange(len(mask))[::-1] for name, mask in keep.items()}
    found = rounded(twin, keep, order, 4)
    assert int(found["layer.self_attn"].sum()) == 3
    assert int(found["layer.linear1"].sum()) == 24


def test_nonsense_is_refused() -> None:
    with pytest.raises(ConfigError, match="round_to"):
        PruneSettings(round_to=0)
