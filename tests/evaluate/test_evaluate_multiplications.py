"""Multiply-accumulates against counts by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from epigram.evaluate import macs
from epigram.recipes.networks import LeNet5Caffe, LeNet300100, LeNet300100Conv


@pytest.mark.parametrize(
    ("model", "shape", "expected"),
    [
        (nn.Linear(5, 3), (1, 5), 5 * 3),
        (nn.Linear(5, 3, bias=False), (1, 5), 5 * 3),
        (nn.Linear(5, 3), (2, 7, 5), 2 * 7 * 5 * 3),
        (nn.Conv1d(4, 6, 3), (1, 4, 9), 6 * 7 * 4 * 3),
        (nn.Conv2d(4, 6, 3, padding=1), (1, 4, 8, 8), 6 * 64 * 4 * 9),
        (nn.Conv2d(4, 6, 3, stride=2), (1, 4, 7, 7), 6 * 9 * 4 * 9),
        (nn.Conv2d(4, 6, 3, dilation=2), (1, 4, 7, 7), 6 * 9 * 4 * 9),
        (nn.Conv2d(4, 6, (1, 3), groups=2), (1, 4, 5, 5), 6 * 15 * 2 * 3),
        (nn.Conv2d(4, 4, 3, groups=4), (1, 4, 5, 5), 4 * 9 * 9),
        (nn.Conv3d(2, 3, 2), (1, 2, 4, 4, 4), 3 * 27 * 2 * 8),
        (nn.ConvTranspose1d(4, 6, 3), (1, 4, 7), 4 * 7 * 6 * 3),
        (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (1, 4, 5, 5), 4 * 25 * 3 * 9),
        (nn.Sequential(nn.ReLU(), nn.BatchNorm1d(5)), (1, 5), 0),
    ],
)
def test_counts_by_hand(model: nn.Module, shape: tuple[int, ...], expected: int) -> None:
    assert macs(model, torch.zeros(shape)) == expected


def test_the_networks_of_the_literature() -> None:
    image = torch.zeros(1, 1, 28, 28)
    dense = 784 * 300 + 300 * 100 + 100 * 10
    assert macs(LeNet300100(), image) == dense
    assert macs(LeNet300100Conv(), image) == dense
    # 20 filters of 1x5x5 on 24x24 places, 50 of 20x5x5 on 8x8, then 800 -> 500 -> 10
    assert macs(LeNet5Caffe(), image) == 288_000 + 1_600_000 + 400_000 + 5_000


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(4, 4)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return F.linear(self.shared(self.shared(x)), self.shared.weight) @ y


def test_counts_calls_not_modules_and_takes_several_arguments() -> None:
    model = Twice()
    assert macs(model, (torch.zeros(1, 4), torch.zeros(4, 2))) == 3 * 16 + 8
    assert model.training


def test_attention_is_seen() -> None:
    """Four projections of 5 tokens, the scores and their use: 2 heads, 5x5, 4 channels each."""
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    tokens = torch.zeros(1, 5, 8)
    fast = torch.backends.mha.get_fastpath_enabled()
    assert macs(attention, (tokens, tokens, tokens)) == 4 * 5 * 8 * 8 + 2 * (2 * 5 * 5 * 4)
    assert torch.backends.mha.get_fastpath_enabled() == fast
