"""Shapes that depend on values: units keep their axis whichever rows are chosen, and what chooses stays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from epigram.records import LeftWhole
from epigram.structure import analyse, mask_units, remove_units, slice_plan, verify_removal

X = torch.randn(5, 6, generator=torch.Generator().manual_seed(4))
ALL = {"a": 8, "b": 7}
Between = Callable[[Tensor, Tensor], Tensor]


class Chooses(nn.Module):
    """Two hidden layers, and something between them that sees the first one's units and the input."""

    def __init__(self, between: Between) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 7), nn.Linear(7, 3)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.relu(self.b(self.between(F.relu(self.a(x)), x))))


def columns(h: Tensor, index: Tensor) -> Tensor:
    return h[torch.arange(h.shape[0])[:, None], index]


FOLLOWED: dict[str, Between] = {
    "a mask": lambda h, x: h[x[:, 0] > -0.5],
    "its complement, too": lambda h, x: torch.cat([h[x[:, 0] > 0], h[x[:, 0] <= 0]]),
    "nonzero": lambda h, x: h.index_select(0, (x[:, 0] > -0.5).nonzero()[:, 0]),
    "unique": lambda h, x: h[torch.unique((x[:, 0] > 0).long())],
    "repeats": lambda h, x: torch.repeat_interleave(h, (x[:, 0] > 0).long() + 1, 0),
    "places in a sequence": lambda h, x: torch.stack([h, 2 * h], 1)[(x[:, :2] > -0.5)],
    "one place of each": lambda h, x: torch.stack([h, 2 * h], 1)[
        torch.arange(2), (x[:2, 0] > 0).long()
    ],
    "all but the first": lambda h, x: h[x[:, 0] > -1.5][1:].reshape(-1, h.shape[1]),
    "with rows beside": lambda h, x: h[x[:, 0] > -0.5] * 2 + h[x[:, 0] > -0.5].exp(),
}
LEFT: dict[str, tuple[str, Between]] = {
    "all units choose": ("sum", lambda h, x: h[h.sum(1) > -1]),
    "units are chosen": ("index", lambda h, x: (h.T[(x[:, 0] > -9)]).T.relu()),
    "elements are chosen": (
        "masked_select",
        lambda h, x: torch.masked_select(h, h >= 0).view(-1, 8),
    ),
    "chosen from all": ("index", lambda h, x: h.flatten()[(x[:, 0] > -9).repeat(8)].view(-1, 8)),
}


@pytest.mark.parametrize("between", FOLLOWED.values(), ids=FOLLOWED)
def test_units_are_followed_past_a_choice_of_rows(between: Between) -> None:
    model = Chooses(between).eval()
    structure = analyse(model, X)
    assert ({g.name: g.units for g in structure.groups}, structure.left_whole) == (ALL, ())
    keep = {name: np.arange(units) % 3 > 0 for name, units in ALL.items()}
    small, masked = (
        remove_units(model, slice_plan(structure, keep)),
        mask_units(model, structure, keep),
    )
    for batch in (X, torch.randn(9, 6, generator=torch.Generator().manual_seed(5))):
        assert small(batch).numel()
        verify_removal(small, masked, batch)


@pytest.mark.parametrize(("operation", "between"), LEFT.values(), ids=LEFT)
def test_what_chooses_and_what_is_chosen_stays(operation: str, between: Between) -> None:
    structure = analyse(Chooses(between).eval(), torch.cat([X, X])[:8])
    (entry,) = structure.left_whole
    assert (entry.where, entry.operation) == ("a", operation)
    assert {g.name: g.units for g in structure.groups} == {"b": 7}


def test_a_unit_that_chooses_stays_and_the_others_may_go() -> None:
    structure = analyse(Chooses(lambda h, x: h[h[:, 0] >= 0]).eval(), X)
    (group, _) = structure.groups
    assert group.members[0].index.ravel().tolist() == [1, 2, 3, 4, 5, 6, 7]
    (entry,) = structure.left_whole
    assert (entry.where, entry.operation) == ("a", "index")
    assert "its values choose which rows go on" in entry.reason


def test_masked_tokens_are_followed() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.e, self.h, self.o = nn.Embedding(30, 6), nn.Linear(6, 12), nn.Linear(12, 30)

        def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
            h = self.e(tokens)
            return self.o(F.gelu(self.h(h[tokens == 3]))), torch.masked_select(h, h > 0)

    structure = analyse(Masked(), torch.tensor([[1, 3, 4, 3], [3, 2, 1, 3]]))
    assert {g.name: g.units for g in structure.groups} == {"h": 12}
    (entry,) = structure.left_whole
    assert (entry.where, entry.operation) == ("e", "masked_select")


def test_where_the_example_chooses_nothing_nothing_can_be_judged() -> None:
    """A literal that no trial can see: of no rows every removal is exact."""

    def literal(h: Tensor, x: Tensor) -> Tensor:
        return h[(x[:, 0] > 1e9)][:, [1, 0, 2, 3, 4, 5, 6, 7]].sort(1)[0].view(-1, h.shape[1])

    def left(between: Between) -> dict[str, LeftWhole]:
        return {entry.where: entry for entry in analyse(Chooses(between).eval(), X).left_whole}

    for between in (literal, lambda h, x: h[x[:, 0] > 1e9]):
        found = left(between)
        assert set(found) == {"a", "b"}
        assert "rows to choose" in found["b"].reason
