"""A width that ``forward`` asks for, and that no trial has met, is met by no cut either."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from epigram.convert import Twin, bayesianize
from epigram.errors import RemovalError
from epigram.prune import PruneSettings, Shrinker
from epigram.prune.masks import exact

X = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
FEW, MANY = np.arange(64) < 37, np.arange(64) < 36


class Peculiar(nn.Module):
    """Another function where 37 units are left."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 64), nn.Linear(64, 7), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.a(x))
        if _width(h) == 37:
            h = 2 * h
        return self.c(F.relu(self.b(h)))


def _width(h: Tensor) -> int:
    return int(h.untyped_storage().nbytes() / h.element_size() / h.shape[0])


@pytest.fixture
def twin() -> Twin:
    torch.manual_seed(0)
    found = bayesianize(Peculiar(), X)
    assert {"a", "b"} <= set(found.names)
    return found


def test_a_cut_that_is_not_exact_is_refused_and_changes_nothing(twin: Twin) -> None:
    before = {name: t.clone() for name, t in twin.state_dict().items()}
    with pytest.raises(RemovalError, match=r"a: 37 of 64.*differs by.*nothing is removed"):
        twin.shrink_({"a": FEW, "b": np.arange(7) > 1})
    assert all(torch.equal(before[name], t) for name, t in twin.state_dict().items())
    twin.shrink_({"a": MANY})
    assert twin.units_kept()["a"] == (36, 64)


def test_the_rest_of_such_a_cut_is_made(twin: Twin, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        keep = exact(twin, {"a": FEW, "b": np.arange(7) > 1})
    assert keep["a"].all() and keep["b"].sum() == 5
    assert "a keeps its 64 units for now: with 37 of them" in caplog.text
    assert exact(twin, {"a": MANY})["a"].sum() == 36


def test_the_shrinker_waits_for_another_number_of_units(
    twin: Twin, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = {
        name: np.zeros(scale.units) for name, scale in zip(twin.names, twin.scales, strict=True)
    }
    monkeypatch.setattr(Twin, "removability", lambda _: noise)
    shrinker = Shrinker("group-jeffreys", PruneSettings(shrink_patience=1))
    noise["a"] = np.where(FEW, 0.0, 9.0)
    assert shrinker.step(twin) == []
    noise["a"] = np.where(MANY, 0.0, 9.0)
    assert shrinker.step(twin)
    assert twin.units_kept()["a"] == (36, 64)


def test_without_an_example_nothing_is_tried(twin: Twin) -> None:
    twin.example = None
    twin.shrink_({"a": FEW})
    assert twin.units_kept()["a"] == (37, 64)
