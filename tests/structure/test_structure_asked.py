"""Sizes that ``forward`` asks about: a branch that few widths take is found without meeting one of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from epigram.structure import analyse, asked, mask_units, remove_units, slice_plan, verify_removal

X = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))


class Asking(nn.Module):
    """A layer of 64 units ``a``, about whose width ``ask`` asks."""

    def __init__(self, ask: Callable[[Tensor, nn.Module], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 64), nn.Linear(64, 7), nn.Linear(7, 3)
        self.ask = ask

    def forward(self, x: Tensor) -> Tensor:
        h = self.ask(F.relu(self.a(x)), self.b)
        return self.c(F.relu(self.b(h)))


@pytest.mark.parametrize(
    "ask",
    [
        lambda h, _: 2 * h if h.shape[1] == 37 else h,
        lambda h, _: 2 * h if 20 < h.shape[1] < 40 else h,
        lambda h, _: 2 * h if h.size(1) < 3 else h,
        lambda h, _: 2 * h if not h.shape[-1] % 37 else h,
        lambda h, _: 2 * h if h.numel() // len(h) == 37 else h,
        lambda h, _: 2 * h if h.shape[1] // 10 == 3 else h,
        lambda h, _: h * (min(h.shape[1], 16) / 16),
        lambda h, _: 2 * h if h.shape[1] / 64 < 0.1 else h,
        lambda h, _: 2 * h if h.shape[1] & (h.shape[1] - 1) == 4 else h,
        lambda h, _: F.group_norm(h, 8) if h.shape[1] % 8 == 0 and h.shape[1] < 33 else h,
    ],
)
def test_a_width_whose_answer_changes_keeps_its_units(
    ask: Callable[[Tensor, nn.Module], Tensor],
) -> None:
    structure = analyse(Asking(ask), X)
    assert [g.name for g in structure.groups] == ["b"]
    (left,) = structure.left_whole
    assert (left.where, left.operation) == ("a", "forward")
    assert "forward asks `lambda h, _: " in left.reason


@pytest.mark.parametrize(
    "ask",
    [
        lambda h, b: 2 * h if h.shape[1] == b.in_features else h,
        lambda h, _: 2 * h if h.shape[1] else h,
        lambda h, _: h * (min(h.shape[1], 100) / h.size(1)),
        lambda h, _: 2 * h if len(h) == 3 and h.shape[0] % 3 == 0 else h,
        lambda h, _: F.pad(h, (0, -h.shape[1] % 8))[:, : h.shape[1]],
        lambda h, _: 2 * h if h.shape == (h + 1).shape else h,
    ],
)
def test_an_answer_that_is_always_the_same_keeps_none(
    ask: Callable[[Tensor, nn.Module], Tensor],
) -> None:
    torch.manual_seed(0)
    model = Asking(ask)
    structure = analyse(model, X)
    assert [g.name for g in structure.groups] == ["a", "b"]
    for left in (1, 2, 37, 63):
        keep = {"a": np.arange(64) < left}
        small = remove_units(model, slice_plan(structure, keep))
        verify_removal(small, mask_units(model, structure, keep), X)


def test_two_layers_that_are_compared_keep_both() -> None:
    class Compared(Asking):
        def forward(self, x: Tensor) -> Tensor:
            h = F.relu(self.a(x))
            y = F.relu(self.b(h))
            return self.c(2 * y if y.shape[1] + h.shape[1] < 8 else y)

    structure = analyse(Compared(lambda h, _: h), X)
    assert not structure.groups
    assert {left.where for left in structure.left_whole} == {"a", "b"}


def test_networks_that_ask_nothing_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(asked, "patterns", lambda _: calls.append(1))
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    assert [g.name for g in analyse(model, X).groups] == ["0"]
    assert not calls
