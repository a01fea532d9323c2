"""Three disjoint parts of the training data, and the test set: fit, control, validation, test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from epigram.data.tensor_set import TensorSet
from epigram.errors import DataError
from epigram.records import IntArray

_SPLIT_SEED = 20171105  # any constant would do; changing it changes every published split

_SHARE = 12
"""One part in so many steers, and as much judges: MNIST's 5 000 of 60 000."""


@dataclass(frozen=True)
class Splits:
    """What each part is for: ``fit`` trains, ``control`` steers, ``validation`` judges.

    The test set is read once, at the end.
    """

    fit: TensorSet
    control: TensorSet
    validation: TensorSet
    test: TensorSet | None = None

    @classmethod
    def of(cls, train: Any, *, validation: Any = None, test: Any = None) -> Splits:
        """The four parts, of what a user has; each of it is whatever ``TensorSet.of`` takes.

        Args:
            train: to fit to.
            validation: half of it steers, half judges. None = a twelfth each of ``train``; a network that has been
                trained on these already does better on them than on others.
            test: None = there is none.

        Raises:
            DataError: a data set is malformed, or too small to be split.
        """
        fitted = TensorSet.of(train, name="train")
        tested = None if test is None else TensorSet.of(test, name="test")
        if validation is None:
            share = max(1, len(fitted) // _SHARE)
            return cls(*split_fixed(fitted, control=share, validation=share), tested)
        held = TensorSet.of(validation, name="validation")
        if len(held) < 2:
            raise DataError(
                "validation: got 1 example, expected at least 2: one steers, one judges"
            )
        steering, judging = _permuted(len(held), [len(held) // 2])
        return cls(
            fitted,
            held.subset(steering, name="validation/control"),
            held.subset(judging, name="validation/judges"),
            tested,
        )

    def describe(self) -> dict[str, dict[str, Any]]:
        """Size and sha256 of each part, as ``result.json`` has it."""
        parts = {name: getattr(self, name) for name in ("fit", "control", "validation", "test")}
        return {
            name: {"examples": len(part), "sha256": part.fingerprint()}
            for name, part in parts.items()
            if part is not None
        }

    def to(self, device: torch.device | str) -> Splits:
        """The same splits on ``device``."""
        test = None if self.test is None else self.test.to(device)
        return Splits(
            self.fit.to(device), self.control.to(device), self.validation.to(device), test
        )


def split_indices(
    examples: int, *, control: int, validation: int
) -> tuple[IntArray, IntArray, IntArray]:
    """Rows of fit, control and validation: disjoint, together all of them, always the same.

    A permutation from a constant seed, so the split depends on neither a run's seed nor on the
    versions of numpy and torch: ``RandomState`` is the one generator whose stream is frozen.

    Raises:
        DataError: one of the three parts would be empty.
    """
    fit = examples - control - validation
    if min(fit, control, validation) < 1:
        raise DataError(
            f"split: got {examples} examples for {control} control and {validation} validation "
            f"examples, which leaves {fit} to fit; expected at least one in each part"
        )
    first, second, third = _permuted(examples, [fit, fit + control])
    return first, second, third


def _permuted(examples: int, borders: list[int]) -> list[IntArray]:
    """The rows of one fixed permutation, cut at ``borders``; each part in the order of the data."""
    order = np.random.RandomState(_SPLIT_SEED).permutation(examples).astype(np.int64)
    return [np.sort(part) for part in np.split(order, borders)]


def split_fixed(
    data: TensorSet, *, control: int, validation: int
) -> tuple[TensorSet, TensorSet, TensorSet]:
    """``data`` as (fit, control, validation), with so many examples in the latter two.

    Raises:
        DataError: one of the three parts would be empty.

    Example:
        >>> data = TensorSet(torch.zeros(10, 2), torch.arange(10), "ten")
        >>> [len(part) for part in split_fixed(data, control=2, validation=3)]
        [5, 2, 3]
    """
    fit, steer, judge = split_indices(len(data), control=control, validation=validation)
    return (
        data.subset(fit, name=f"{data.name}/fit"),
        data.subset(steer, name=f"{data.name}/control"),
        data.subset(judge, name=f"{data.name}/validation"),
    )
