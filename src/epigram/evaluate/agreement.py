"""How differently two networks answer, beyond what their accuracies say."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from epigram.errors import DataError


def disagreement_percent(logits_a: Tensor, logits_b: Tensor) -> float:
    """How often the two largest outputs are different classes, in per cent of the examples.

    Both are ``[examples, classes]``, of the same examples in the same order.

    Raises:
        DataError: the shapes differ, or there are no examples.
    """
    _check(logits_a, logits_b)
    differ = logits_a.argmax(dim=1).cpu() != logits_b.argmax(dim=1).cpu()
    return 100.0 * int(differ.sum()) / len(differ)


def class_accuracy_change_percent(
    before: Tensor, after: Tensor, targets: Tensor
) -> NDArray[np.float64]:
    """Per class: accuracy after minus accuracy before, in percentage points.

    An average can hide a class that was given up. NaN for a class without examples. The outputs are
    ``[examples, classes]``, the labels ``[examples]``.

    Raises:
        DataError: the shapes differ, or there are no examples.
    """
    _check(before, after)
    labels = targets.cpu().numpy()
    if labels.shape != (len(before),):
        raise DataError(
            f"class_accuracy_change_percent: got targets of shape {labels.shape}, "
            f"expected ({len(before)},)"
        )
    if labels.min() < 0 or labels.max() >= before.shape[1]:
        raise DataError(
            f"class_accuracy_change_percent: labels run from {labels.min()} to {labels.max()}, "
            f"but there are {before.shape[1]} outputs"
        )
    gained = (after.argmax(dim=1).cpu().numpy() == labels).astype(np.float64)
    lost = (before.argmax(dim=1).cpu().numpy() == labels).astype(np.float64)
    classes = before.shape[1]
    count = np.bincount(labels, minlength=classes)
    change = np.bincount(labels, weights=gained - lost, minlength=classes)
    with np.errstate(invalid="ignore"):
        return 100.0 * change / np.where(count, count, np.nan)


def _check(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.ndim != 2 or len(a) == 0:
        raise DataError(
            f"comparing outputs: got shapes {tuple(a.shape)} and {tuple(b.shape)}, "
            "expected [examples, classes] twice, and at least one example"
        )
