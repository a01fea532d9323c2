"""Files that a stage passed on its way: of each size class the one that does best on the control split."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from epigram.records import Floor

MOST = 32
CLASS = 1.03
"""The largest file of a size class over its smallest."""


@dataclass(frozen=True)
class Candidate:
    """One file of the run's profile.

    Attributes:
        epoch: after which it was made.
        data: the file.
        predicted_bytes: computed before it was encoded.
        control: the metric on the control split.
    """

    epoch: int
    data: bytes = field(repr=False, kw_only=True)
    predicted_bytes: int = field(kw_only=True)
    control: float = field(kw_only=True)

    @property
    def size_bytes(self) -> int:
        """Of the file."""
        return len(self.data)


@dataclass
class Front:
    """The candidates that are worth keeping, the smallest first.

    Args:
        floor: says which metric values are better.
        kept: at present.
    """

    floor: Floor
    kept: list[Candidate] = field(default_factory=list)

    def offer(self, candidate: Candidate) -> None:
        """Keep it if it is the best of its size class: on control, then by size, then the later one.

        Classes are apart, whatever the control split says: its noise is as large as what a tenth of the bytes is worth, and
        validation judges in the end. Where there are too many, one goes that a smaller one beats on control, if there is one: that
        whose neighbours are nearest in size.
        """
        if not np.isfinite(candidate.control):
            return
        same = [one for one in self.kept if _size_class(one) == _size_class(candidate)]
        if any(self._worth(one) > self._worth(candidate) for one in same):
            return
        stays = [one for one in self.kept if one not in same]
        self.kept = sorted([*stays, candidate], key=lambda one: one.size_bytes)
        if len(self.kept) > MOST:
            del self.kept[self._least_missed()]

    def _worth(self, one: Candidate) -> tuple[float, int, int]:
        return self.floor.margin(one.control), -one.size_bytes, one.epoch

    def _least_missed(self) -> int:
        """Neither the smallest, nor the largest, nor control's best."""
        sizes = [one.size_bytes for one in self.kept]
        margins = [self.floor.margin(one.control) for one in self.kept]
        open_ = [i for i in range(1, len(sizes) - 1) if margins[i] < max(margins)]
        open_ = open_ or list(range(1, len(sizes) - 1))
        beaten = [i for i in open_ if margins[i] <= max(margins[:i])]
        return min(beaten or open_, key=lambda i: sizes[i + 1] / sizes[i - 1])

    def state(self) -> list[dict[str, Any]]:
        """Tensors and numbers, for a checkpoint."""
        return [
            {
                "epoch": c.epoch,
                "data": torch.from_numpy(np.frombuffer(c.data, np.uint8).copy()),
                "predicted_bytes": c.predicted_bytes,
                "control": c.control,
            }
            for c in self.kept
        ]

    def load(self, state: Sequence[Mapping[str, Any]]) -> None:
        """The inverse of ``state``."""
        self.kept = [
            Candidate(
                epoch=int(saved["epoch"]),
                data=saved["data"].cpu().numpy().tobytes(),
                predicted_bytes=int(saved["predicted_bytes"]),
                control=float(saved["control"]),
            )
            for saved in state
        ]


def _size_class(one: Candidate) -> int:
    return int(math.log(one.size_bytes) / math.log(CLASS))
