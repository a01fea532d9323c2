"""Networks for 32x32 colour images without shortcuts, as plain modules."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class MLPMeans(nn.Module):
    """A multilayer perceptron on the mean of the colour channels at each pixel: 1024-300-100-10.

    A network to find faults with: as small and quick as LeNet-300-100, on images it cannot do well.
    338 610 parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(1024, 300)
        self.fc2 = nn.Linear(300, 100)
        self.fc3 = nn.Linear(100, 10)

    def forward(self, x: Float[Tensor, "batch 3 32 32"]) -> Float[Tensor, "batch 10"]:
        x = torch.flatten(x.mean(dim=1), 1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        logits: Tensor = self.fc3(x)
        return logits


class AllConv(nn.Module):
    """All-CNN-C of Springenberg et al. 2015 (table 1) with 24 filters in every layer.

    Strides take the place of pooling, and the mean over positions that of the linear head. Without
    dropout and normalisation. 32 770 parameters at 24 filters.

    Args:
        filters: of all layers but the last.
        classes: the number of outputs.
    """

    def __init__(self, *, filters: int = 24, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, filters, 3, padding=1)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1)
        self.conv3 = nn.Conv2d(filters, filters, 3, stride=2, padding=1)
        self.conv4 = nn.Conv2d(filters, filters, 3, padding=1)
        self.conv5 = nn.Conv2d(filters, filters, 3, padding=1)
        self.conv6 = nn.Conv2d(filters, filters, 3, stride=2, padding=1)
        self.conv7 = nn.Conv2d(filters, filters, 3)
        self.conv8 = nn.Conv2d(filters, filters, 1)
        self.conv9 = nn.Conv2d(filters, classes, 1)
        for module in self.children():
            assert isinstance(module, nn.Conv2d)
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            assert module.bias is not None
            nn.init.zeros_(module.bias)

    def forward(self, x: Float[Tensor, "batch 3 32 32"]) -> Float[Tensor, "batch classes"]:
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = F.relu(self.conv3(x))
        x = F.relu(self.conv4(x))
        x = F.relu(self.conv5(x))
        x = F.relu(self.conv6(x))
        x = F.relu(self.conv7(x))
        x = F.relu(self.conv8(x))
        logits: Tensor = self.conv9(x).mean(dim=(2, 3))
        return logits


class VGG16(nn.Module):
    """VGG-16 for CIFAR: 13 convolutions with batch normalisation, and a head of one or two layers.

    The network of Simonyan and Zisserman 2015 (configuration D) with 512 units in place of its two
    layers of 4096, as papers on compression use it. 14 986 698 parameters (60 MB) with the hidden
    layer, 14 724 042 without.

    Args:
        hidden: units of the hidden layer of the head; 0 = there is none.
        classes: the number of outputs.
        width: multiplies the convolutions' channels.
    """

    STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))

    def __init__(self, *, hidden: int = 512, classes: int = 10, width: float = 1.0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for full_width, convolutions in self.STAGES:
            channels = max(1, round(full_width * width))
            for _ in range(convolutions):
                convolution = nn.Conv2d(inputs, channels, 3, padding=1, bias=False)
                nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
                layers += [convolution, nn.BatchNorm2d(channels), nn.ReLU()]
                inputs = channels
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier: nn.Module = nn.Linear(hidden or inputs, classes)
        if hidden:
            first = nn.Linear(inputs, hidden)
            self.classifier = nn.Sequential(first, nn.ReLU(), self.classifier)

    def forward(self, x: Float[Tensor, "batch 3 32 32"]) -> Float[Tensor, "batch classes"]:
        logits: Tensor = self.classifier(torch.flatten(self.features(x), 1))
        return logits
