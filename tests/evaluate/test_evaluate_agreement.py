"""How often two networks answer differently, and which classes changed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from epigram.errors import DataError
from epigram.evaluate import class_accuracy_change_percent, disagreement_percent

BEFORE = torch.eye(4)[[0, 0, 1, 1, 2]]  # answers
AFTER = torch.eye(4)[[0, 1, 1, 1, 0]]
LABELS = torch.tensor([0, 0, 1, 2, 2])


def test_disagreement_counts_answers_not_scores() -> None:
    assert disagreement_percent(BEFORE, AFTER) == 40.0
    assert disagreement_percent(BEFORE, 3.0 * BEFORE - 1.0) == 0.0


def test_change_per_class() -> None:
    change = class_accuracy_change_percent(BEFORE, AFTER, LABELS)
    # class 0: 2 of 2 -> 1 of 2; class 1: 1 of 1 -> 1 of 1; class 2: 1 of 2 -> 0 of 2; 3: absent
    np.testing.assert_array_equal(change, [-50.0, 0.0, -50.0, np.nan])
    np.testing.assert_array_equal(class_accuracy_change_percent(AFTER, BEFORE, LABELS), -change)


@pytest.mark.parametrize("other", [torch.zeros(5, 3), torch.zeros(4, 4), torch.zeros(5)])
def test_refuses_other_shapes(other: torch.Tensor) -> None:
    with pytest.raises(DataError, match="expected \\[examples, classes\\] twice"):
        disagreement_percent(BEFORE, other)


def test_refuses_other_labels() -> None:
    with pytest.raises(DataError, match="got targets of shape"):
        class_accuracy_change_percent(BEFORE, AFTER, LABELS[:-1])
    with pytest.raises(DataError, match="labels run from 0 to 4"):
        class_accuracy_change_percent(BEFORE, AFTER, LABELS + torch.tensor([0, 0, 0, 0, 2]))
