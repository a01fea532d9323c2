"""Residual networks for 32x32 images (He et al. 2016), as plain modules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Zeros: TypeAlias = Literal["around", "after"]

WIDTHS = (16, 32, 64)
"""Channels of the three stages of a ``CifarResNet``."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut without parameters (option A of He et al.).

    Args:
        inputs: channels that come in.
        outputs: channels that go out, at least as many.
        stride: of the first convolution and of the shortcut.
        zeros: where the shortcut's zero channels lie, see ``CifarResNet``.
    """

    def __init__(
        self, inputs: int, outputs: int, *, stride: int = 1, zeros: Zeros = "around"
    ) -> None:
        super().__init__()
        self.stride, self.zeros = stride, zeros
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(
        self, x: Float[Tensor, "batch inputs height width"]
    ) -> Float[Tensor, "batch outputs rows columns"]:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + self._shortcut(x, y))

    def _shortcut(self, x: Tensor, y: Tensor) -> Tensor:
        """``x`` in the shape of ``y``: every ``stride``-th pixel, and zero channels.

        All sizes are those of the tensors, so that the block may lose channels.
        """
        x = x[:, :, :: self.stride, :: self.stride]
        missing = y.size(1) - x.size(1)
        if missing == 0:
            return x
        before = missing // 2 if self.zeros == "around" else 0
        after = torch.zeros_like(y[:, before + x.size(1) :])
        return torch.cat([torch.zeros_like(y[:, :before]), x, after], dim=1)


class CifarResNet(nn.Module):
    """ResNet of depth 6n + 2 for CIFAR: three stages of n basic blocks, 16, 32 and 64 channels wide.

    The state dict has the names of akamaster's pytorch_resnet_cifar10. Shortcuts between stages skip
    pixels and add zero channels (option A), and so tie the channels of all stages by their place.

    * ``zeros="around"``: as many zeros before as after the channels, which is where akamaster has
      them; his weights load as they are. No one can tell from sizes which of the zeros a removed
      channel met, so the channels of stages 2 and 3 that meet zeros stay.
    * ``zeros="after"``: all of them after. The same functions, with channels in another order
      (``channels_first``), and every channel can go: one of stage 1 with its continuation in stages
      2 and 3, one that begins in stage 2 with its continuation in stage 3.

    Args:
        blocks: n, the blocks of a stage: 3 for ResNet-20 (269 722 parameters), 9 for ResNet-56
            (853 018).
        zeros: where the shortcuts' zero channels lie.
        classes: the number of outputs.
    """

    def __init__(self, blocks: int = 3, *, zeros: Zeros = "around", classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.layer1 = _stage(WIDTHS[0], WIDTHS[0], blocks, stride=1, zeros=zeros)
        self.layer2 = _stage(WIDTHS[0], WIDTHS[1], blocks, stride=2, zeros=zeros)
        self.layer3 = _stage(WIDTHS[1], WIDTHS[2], blocks, stride=2, zeros=zeros)
        self.linear = nn.Linear(WIDTHS[2], classes)
        _initialise_(self)

    def forward(self, x: Float[Tensor, "batch 3 32 32"]) -> Float[Tensor, "batch classes"]:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits


def channels_first(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a ``zeros="around"`` network, ordered for the ``zeros="after"`` one.

    Within each stage, the channels that come from the previous one are moved to the front.

    Args:
        state: the state dict of a ``CifarResNet`` of any depth; it is not changed.
    """
    orders = _stream_orders()
    new = {}
    for name, tensor in state.items():
        for axis, stage in _stream_axes(name).items():
            tensor = tensor.index_select(axis, orders[stage])  # noqa: PLW2901
        new[name] = tensor.clone()
    return new


def _stream_orders() -> list[Tensor]:
    """Per stage, the old place of each channel in the new order."""
    orders = [torch.arange(WIDTHS[0])]
    for width in WIDTHS[1:]:
        inner = orders[-1]
        before = (width - len(inner)) // 2
        after = torch.arange(before + len(inner), width)
        orders.append(torch.cat([inner + before, torch.arange(before), after]))
    return orders


def _stream_axes(name: str) -> dict[int, int]:
    """Axis -> stage, for the axes of a tensor that are channels of a stage's stream."""
    if name.startswith("linear.weight"):
        return {1: 2}
    found = re.fullmatch(r"layer(\d)\.(\d+)\.(conv1|conv2|bn2)\.(\w+)", name)
    if found is None or found[4] == "num_batches_tracked":
        return {}
    stage, first = int(found[1]) - 1, found[2] == "0"
    if found[3] == "conv1":
        return {1: max(0, stage - 1) if first else stage}
    return {0: stage}


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution; the last is four times as wide. Projections where sizes change."""

    EXPANSION = 4

    def __init__(self, inputs: int, width: int, *, stride: int = 1) -> None:
        super().__init__()
        outputs = width * self.EXPANSION
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(
        self, x: Float[Tensor, "batch inputs height width"]
    ) -> Float[Tensor, "batch outputs rows columns"]:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class CifarResNet50(nn.Module):
    """ResNet-50 with the stem of small images: a 3x3 convolution of stride 1, no pooling.

    Parameters are named as torchvision's. 23 520 842 parameters at width 1.

    Args:
        width: multiplies every layer's channels (64, 128, 256 and 512 in the blocks' middle).
        classes: the number of outputs.
    """

    def __init__(self, *, width: float = 1.0, classes: int = 10) -> None:
        super().__init__()
        middles = [max(1, round(channels * width)) for channels in (64, 128, 256, 512)]
        self.conv1 = nn.Conv2d(3, middles[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(middles[0])
        outputs = [middle * Bottleneck.EXPANSION for middle in middles]
        self.layer1 = _bottlenecks(middles[0], middles[0], 3, stride=1)
        self.layer2 = _bottlenecks(outputs[0], middles[1], 4, stride=2)
        self.layer3 = _bottlenecks(outputs[1], middles[2], 6, stride=2)
        self.layer4 = _bottlenecks(outputs[2], middles[3], 3, stride=2)
        self.fc = nn.Linear(outputs[3], classes)
        _initialise_(self)

    def forward(self, x: Float[Tensor, "batch 3 32 32"]) -> Float[Tensor, "batch classes"]:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


def _bottlenecks(inputs: int, middle: int, blocks: int, *, stride: int) -> nn.Sequential:
    first = Bottleneck(inputs, middle, stride=stride)
    more = (Bottleneck(middle * Bottleneck.EXPANSION, middle) for _ in range(blocks - 1))
    return nn.Sequential(first, *more)


def _stage(inputs: int, outputs: int, blocks: int, *, stride: int, zeros: Zeros) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, stride=stride, zeros=zeros)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs) for _ in range(blocks - 1)))


def _initialise_(model: nn.Module) -> None:
    """He et al. 2015: normal weights that keep the variance through a ReLU."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
