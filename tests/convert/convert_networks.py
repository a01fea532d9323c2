"""Networks of the kinds a twin must handle, small enough for a test."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from epigram.recipes.networks import LeNet5Caffe, LeNet300100, LeNet300100Conv


class Residual(nn.Module):
    """One stream that two layers produce and three read."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.branch1 = nn.Conv2d(8, 6, 3, padding=1)
        self.branch2 = nn.Conv2d(6, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(self.norm(x + self.branch2(F.relu(self.branch1(x)))))
        return self.head(x.mean((2, 3)))


class Concatenated(nn.Module):
    """A layer fed by two groups, and one fed by a group beside the network's own input."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(1, 5, 3, padding=1)
        self.right = nn.Conv2d(1, 4, 1)
        self.both = nn.Conv2d(9, 6, 3, padding=1)
        self.beside = nn.Conv2d(7, 5, 3, padding=1)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([F.relu(self.left(x)), F.relu(self.right(x))], 1)
        y = torch.cat([F.relu(self.both(y)), x], 1)
        return self.head(F.relu(self.beside(y)).mean((2, 3)))


class Twice(nn.Module):
    """One layer called twice, under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 5)
        self.middle = nn.Linear(5, 5)
        self.again = self.middle
        self.last = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        return self.last(F.relu(self.again(F.relu(self.middle(x)))))


class TwoReaders(nn.Module):
    """A map read channel by channel by one layer and position by position by another."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.channels = nn.Conv2d(4, 3, 1)
        self.places = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x))
        return self.places(x.flatten(1)) + self.channels(x).mean((2, 3))


def chain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(72, 4),
    )  # fmt: skip


def depthwise() -> nn.Module:
    """With two outputs per channel, so that groups and channels differ."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 1), nn.ReLU(), nn.Conv2d(6, 12, 3, padding=1, groups=6), nn.ReLU(),
        nn.Conv2d(12, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3),
    )  # fmt: skip


def grouped() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 1), nn.ReLU(), nn.Conv2d(8, 6, 3, padding=1, groups=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3),
    )  # fmt: skip


IMAGE, SMALL = (1, 28, 28), (1, 8, 8)
NETWORKS = {
    "lenet-300-100": (LeNet300100, IMAGE),
    "lenet-300-100-conv": (LeNet300100Conv, IMAGE),
    "lenet-5": (LeNet5Caffe, IMAGE),
    "conv-bn-relu": (chain, SMALL),
    "depthwise": (depthwise, SMALL),
    "grouped": (grouped, SMALL),
    "residual": (Residual, SMALL),
    "concatenated": (Concatenated, SMALL),
    "twice": (Twice, (6,)),
    "two-readers": (TwoReaders, (1, 4, 4)),
}


def made(name: str, *, seed: int = 0, batch: int = 3) -> tuple[nn.Module, Tensor]:
    """The network in general position (statistics of its normalisations too), and inputs."""
    build, shape = NETWORKS[name]
    torch.manual_seed(seed)
    network = build()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.3)
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval(), torch.randn(batch, *shape)
