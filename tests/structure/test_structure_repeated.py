"""What is repeated for every head or channel (a mask, an image in grey) leaves them free."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from epigram.structure import analyse, mask_units, remove_units, slice_plan, verify_removal

TOKENS = torch.randn(2, 7, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
PADDING = torch.arange(7)[None] > torch.tensor([[4], [5]])
GREY = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Padded(nn.Module):
    """PyTorch repeats a padding mask for every head; here the weights are asked for, or not."""

    def __init__(self, *, weights: bool) -> None:
        super().__init__()
        self.attn, self.weights = nn.MultiheadAttention(24, 4, batch_first=True), weights

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        more = {"key_padding_mask": padding, "need_weights": self.weights}
        return x + self.attn(x, x, x, **more)[0]


class Grey(nn.Module):
    """A grey image for three channels, added to all of a layer's, and as their mask."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 6, 3, padding=1)
        self.out = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.one(x.expand(-1, 3, -1, -1)).relu()
        y = self.two(y + x.expand_as(y))
        return self.out(y * (x > 0).expand_as(y))


class Literal(Grey):
    """The number of copies is written in forward."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.one(x.expand(-1, 3, -1, -1)).relu()
        return self.out(self.two(y + x.expand(-1, 8, -1, -1)))


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[Tensor, ...], dict[str, int]]] = {
    "padding": (lambda: Padded(weights=False), (TOKENS, PADDING), {"attn": 4}),
    "padding, weights": (lambda: Padded(weights=True), (TOKENS, PADDING), {"attn": 4}),
    "grey": (Grey, (GREY,), {"one": 8, "two": 6}),
    "grey, counted": (Literal, (GREY,), {"two": 6}),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_repeated_for_units_leaves_them_free(case: str) -> None:
    build, inputs, expected = CASES[case]
    torch.manual_seed(0)
    model = build().double().eval()
    structure = analyse(model, inputs)
    assert {g.name: g.units for g in structure.groups} == expected
    keep = {g.name: np.arange(g.units) % 3 != 1 for g in structure.groups}
    small = remove_units(model, slice_plan(structure, keep))
    fresh = (inputs[0].flip(0), *inputs[1:])
    verify_removal(small, mask_units(model, structure, keep), fresh, tolerance=1e-10)
