"""The networks of the literature, as plain modules."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class LeNet300100(nn.Module):
    """LeNet-300-100 (LeCun et al. 1998): 784 pixels, 300 and 100 hidden units, 10 classes.

    266 610 parameters.
    """

    def __init__(self, fc1: int = 300, fc2: int = 100) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, fc1)
        self.fc2 = nn.Linear(fc1, fc2)
        self.fc3 = nn.Linear(fc2, 10)

    def forward(self, x: Float[Tensor, "batch 1 28 28"]) -> Float[Tensor, "batch 10"]:
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        logits: Tensor = self.fc3(x)
        return logits


class LeNet300100Conv(nn.Module):
    """LeNet-300-100 with 1x1 convolutions on 1x1 maps in place of linear layers.

    The same function of the same 266 610 parameters: a compression method should not care.
    """

    def __init__(self, fc1: int = 300, fc2: int = 100) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(784, fc1, kernel_size=1)
        self.fc2 = nn.Conv2d(fc1, fc2, kernel_size=1)
        self.fc3 = nn.Conv2d(fc2, 10, kernel_size=1)

    def forward(self, x: Float[Tensor, "batch 1 28 28"]) -> Float[Tensor, "batch 10"]:
        x = torch.flatten(x, 1).unsqueeze(-1).unsqueeze(-1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return torch.flatten(self.fc3(x), 1)


class LeNet5Caffe(nn.Module):
    """LeNet-5 as in Caffe: 20 and 50 filters of 5x5, 500 hidden units, 10 classes.

    431 080 parameters; the network that most compression papers call LeNet-5.
    """

    def __init__(self, conv1: int = 20, conv2: int = 50, fc1: int = 500) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, conv1, kernel_size=5)
        self.conv2 = nn.Conv2d(conv1, conv2, kernel_size=5)
        self.fc1 = nn.Linear(16 * conv2, fc1)
        self.fc2 = nn.Linear(fc1, 10)

    def forward(self, x: Float[Tensor, "batch 1 28 28"]) -> Float[Tensor, "batch 10"]:
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        logits: Tensor = self.fc2(x)
        return logits
