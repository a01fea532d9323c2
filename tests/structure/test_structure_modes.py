"""Which networks call other functions in train mode, and which only tell functions their mode."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from epigram.structure.modes import acts_alike

X = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(1))


class Acting(nn.Module):
    """A function of a tensor and of what a module has."""

    def __init__(self, act: Callable[[nn.Module, Tensor], object]) -> None:
        super().__init__()
        self.act, self.w = act, nn.Parameter(torch.ones(6))
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> object:
        return self.act(self, x)


def counted(self: nn.Module, x: Tensor) -> Tensor:
    if self.training:
        self.count.add_(1)
    return F.batch_norm(x.transpose(1, 2), None, None, self.w, self.mean, True)


def twice_dropped(self: nn.Module, x: Tensor) -> Tensor:
    return x + F.dropout(F.dropout(x, 0.1, self.training), 0.2 if self.training else 0.0)


@pytest.mark.parametrize(
    "network",
    [
        nn.TransformerEncoderLayer(6, 2, 8, batch_first=True),
        nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), 2),
        nn.Sequential(nn.BatchNorm1d(4), nn.RReLU(), nn.Dropout(inplace=True), nn.Linear(6, 3)),
        nn.LSTM(6, 5, num_layers=2, dropout=0.5, batch_first=True),
        Acting(counted),
        Acting(twice_dropped),
        Acting(lambda _, x: (x.reshape(x.shape[0], -1), x.sum())),
    ],
)
def test_the_same_in_both_modes(network: nn.Module) -> None:
    assert acts_alike(network, (X,))


@pytest.mark.parametrize(
    "act",
    [
        lambda s, x: x.flip(2) if s.training else x.flip(1),
        lambda s, x: x * s.w if s.training else x * s.mean,
        lambda s, x: (x, s.w * 2) if s.training else x,
        lambda s, x: x + F.dropout(x, 0.1, s.training) if s.training else x + x,
        lambda s, x: F.dropout(x) if s.training else x,
        lambda s, x: (s.mean.add_(1), x * 1)[1] if s.training else x * 1,
        lambda s, x: (x * 1, 2 if s.training else 3),
    ],
)
def test_another_graph_in_train_mode(act: Callable[[nn.Module, Tensor], object]) -> None:
    assert acts_alike(Acting(act), (X,)) is False


def test_nothing_is_known_of_a_network_that_does_not_train() -> None:
    assert acts_alike(nn.BatchNorm1d(6), (X[:1, 0],)) is None
    assert torch.backends.mha.get_fastpath_enabled()
