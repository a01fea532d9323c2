"""Examples that hide what attention does: one position, or the same token at all of them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from epigram.structure import analyse, general
from epigram.structure.drawn import says_little, ways_to_draw
from epigram.structure.softmax import one_place_only, with_a_silent_place


class ByHand(nn.Module):
    """One head, whose scale follows the width of queries and keys, or does not."""

    def __init__(self, scale: float | None) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(6, 16), nn.Linear(6, 16), nn.Linear(6, 16)
        self.out, self.scale = nn.Linear(16, 5), scale

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.q(x), self.k(x), self.v(x)
        scale = q.shape[-1] ** -0.5 if self.scale is None else self.scale
        return self.out((q @ k.transpose(1, 2) * scale).softmax(-1) @ v)


class Words(nn.Module):
    """Four heads over words without places; the scale follows the number of heads, their width, or neither."""

    def __init__(self, follows: str) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(11, 24), nn.Linear(24, 5)
        self.q, self.k, self.v = nn.Linear(24, 24), nn.Linear(24, 24), nn.Linear(24, 24)
        self.heads, self.follows = 4, follows

    def forward(self, x: Tensor) -> Tensor:
        x = self.words(x)
        size = (4, -1) if self.follows == "width" else (self.heads, 6)
        q, k, v = (m(x).unflatten(-1, size).transpose(1, 2) for m in (self.q, self.k, self.v))
        scale = {"heads": self.heads**-0.5, "width": None, "neither": 0.5}[self.follows]
        x = F.scaled_dot_product_attention(q, k, v, scale=scale)
        return self.out(x.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("positions", [1, 5])
def test_one_position_hides_no_scale(positions: int) -> None:
    x = torch.randn(2, positions, 6)
    structure = analyse(ByHand(None), x)
    assert [g.name for g in structure.groups] == ["v"]
    (left,) = structure.left_whole
    assert left.where == "q" and "differs by" in left.reason
    assert [g.name for g in analyse(ByHand(0.3), x).groups] == ["q", "v"]


@pytest.mark.parametrize("size", [(2, 7), (2, 1)])
def test_tokens_that_are_all_the_same_hide_no_scale(size: tuple[int, int]) -> None:
    zeros = torch.zeros(size, dtype=torch.long)
    assert [g.name for g in analyse(Words("heads"), zeros).groups] == ["words"]
    assert [g.name for g in analyse(Words("neither"), zeros).groups] == ["words", "q"]
    places = analyse(Words("width"), zeros, attention="places")
    assert [g.name for g in places.groups] == ["words", "v"]


def test_a_softmax_by_hand_over_one_position_cannot_be_judged() -> None:
    class Exponents(ByHand):
        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.q(x), self.k(x), self.v(x)
            weights = (q @ k.transpose(1, 2) * 0.3).exp()
            return self.out(weights / weights.sum(-1, keepdim=True) @ v)

    assert [g.name for g in analyse(Exponents(None), torch.randn(2, 5, 6)).groups] == ["q", "v"]
    structure = analyse(Exponents(None), torch.randn(2, 1, 6))
    assert [g.name for g in structure.groups] == ["v"]
    (left,) = structure.left_whole
    assert (left.where, left.operation) == ("q", "matmul")
    assert "more than one position" in left.reason


def test_tokens_are_drawn_where_they_are_alike_and_looked_up() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.types = nn.Embedding(50, 4), nn.Embedding(2, 4)

        def forward(self, words: Tensor, types: Tensor, mask: Tensor) -> Tensor:
            return (self.words(words) + self.types(types)) * mask[..., None]

    words, types, mask = torch.zeros(2, 40).int(), torch.zeros(2, 40).long(), torch.ones(2, 40)
    given = (words, types, mask.long())
    generator = torch.Generator().manual_seed(0)
    ways = ways_to_draw(Masked(), given, generator)
    assert len(ways) == 3 and ways[-1] is given
    drawn = ways[0]
    assert drawn[0].dtype == torch.int32 and 2 < int(drawn[0].max()) < 50
    assert int(drawn[1].max()) == 1
    assert drawn[2] is given[2]
    mixed = (torch.arange(80).reshape(2, 40) % 50, *drawn[1:])
    assert ways_to_draw(Masked(), mixed, generator)[0][0] is mixed[0]


def test_inputs_that_differ_say_enough() -> None:
    assert not says_little((torch.randn(2, 3), torch.arange(6).reshape(2, 3)))
    assert says_little((torch.zeros(2, 3),))
    assert says_little((torch.tensor([[4, 4, 4], [1, 1, 1]]),))
    assert not general.for_trials(ByHand(None), (torch.randn(2, 3, 6),)).blind
    assert general.for_trials(ByHand(None), (torch.randn(2, 1, 6),)).blind


def test_a_silent_place_is_one_that_says_nothing() -> None:
    q, k, v = torch.randn(3, 2, 4, 5, 8, dtype=torch.float64)
    scores = q @ k.mT * 8**-0.5
    wide = F.pad(scores, (0, 1)).softmax(-1) @ F.pad(v, (0, 0, 0, 1))
    with with_a_silent_place():
        torch.testing.assert_close(F.scaled_dot_product_attention(q, k, v), wide)
        torch.testing.assert_close(scores.softmax(-1) @ v, wide)
    assert one_place_only(nn.Softmax(1), (torch.randn(2, 1, 3),))
    assert not one_place_only(nn.Softmax(1), (torch.randn(2, 3, 1),))
