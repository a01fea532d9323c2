"""Figures in words: one way to print a size, a share, a factor and a time, with their units."""

from __future__ import annotations

import math

NOTHING = "\u2013"
"""What stands for a figure that is not known."""

NARROW = "\u202f"  # a narrow space that does not break: 1 066 440
_NAMES = {
    "lenet": "LeNet",
    "mnist": "MNIST",
    "cifar10": "CIFAR-10",
    "cifar": "CIFAR",
    "resnet": "ResNet",
    "vgg": "VGG",
    "mlp": "MLP",
    "jpeg": "JPEG",
    "caffe": "Caffe",
}


def grouped(value: float) -> str:
    """A whole number with its thousands set apart: ``1 066 440``."""
    return f"{value:,.0f}".replace(",", NARROW).replace("-", "\u2212")


def in_bytes(value: float | None) -> str:
    """``12 345 bytes``; a dash for a figure that is not known."""
    return NOTHING if value is None else f"{grouped(value)}{NARROW}bytes"


def percent(value: float | None, *, digits: int = 2) -> str:
    """A number that is already in per cent: ``1.72 %``."""
    return NOTHING if value is None else f"{value:.{digits}f}{NARROW}%"


def share(value: float | None, *, digits: int = 2) -> str:
    """A fraction 0..1 in per cent: ``0.982`` is ``98.20 %``."""
    return percent(None if value is None else 100.0 * value, digits=digits)


def plain_number(value: float | None, *, digits: int = 4) -> str:
    """A number without unit, with ``digits`` significant digits and no trailing zeros."""
    if value is None:
        return NOTHING
    if value == round(value) and abs(value) < 1e15:
        return grouped(value)
    return f"{value:.{digits}g}".replace("-", "\u2212")


def factor(value: float | None) -> str:
    """``86.4×``: three significant digits, whole from a hundred on."""
    if value is None or not math.isfinite(value):
        return NOTHING
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}".replace("-", "\u2212") + "×"


def duration(seconds: float | None) -> str:
    """``0.42 s``, ``12 s``, ``2 min 14 s``, ``3 h 05 min``."""
    if seconds is None:
        return NOTHING
    if seconds < 9.95:
        return f"{seconds:.2g}{NARROW}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{NARROW}s"
    if whole < 3600:
        return f"{whole // 60}{NARROW}min {whole % 60:02d}{NARROW}s"
    return f"{whole // 3600}{NARROW}h {whole % 3600 // 60:02d}{NARROW}min"


def metric_value(metric: str, value: float | None) -> str:
    """A metric's value: accuracy and error as a share of examples, others as they are."""
    if metric in ("accuracy", "error"):
        return share(value)
    return plain_number(value)


def _spelled(part: str) -> str:
    words = [_NAMES.get(word, word) for word in part.replace("_", "-").split("-")]
    return "-".join(words)


def subject(recipe: str | None) -> str:
    """``lenet-300-100/mnist`` in prose: ``LeNet-300-100 on MNIST``."""
    if not recipe:
        return "This network"
    network, _, data = recipe.partition("/")
    return f"{_spelled(network)} on {_spelled(data)}" if data else _spelled(network)


def is_input(group: str) -> bool:
    """Is it a set of input positions rather than of units?"""
    return group.endswith(".positions")


def group_name(group: str) -> str:
    """A group in words: ``fc1.positions`` are the ``fc1 inputs``."""
    return f"{group.removesuffix('.positions')} inputs" if is_input(group) else group


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """``1 unit``, ``2 units``."""
    return f"{grouped(count)} {singular if count == 1 else plural or singular + 's'}"
