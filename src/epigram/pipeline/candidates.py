"""Files that a stage passed on its way: none of them is beaten in size and metric by another of about its size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from epigram.records import Floor

MOST = 48
SAME_SIZE = 1.03
"""Up to this factor two files are of about the same size."""


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
        """Keep it unless a kept one of about its size is as small and as good; drop those of about its size that it beats.

        Files of other sizes are kept, whatever the control split says of them: its noise is as large as what a tenth
        of the bytes is worth, and validation judges in the end. The later of two equals is kept. Where there are too many,
        the one goes whose neighbours are nearest in size.
        """
        if not np.isfinite(candidate.control):
            return
        if any(self._beats(other, candidate) for other in self.kept):
            return
        stays = [other for other in self.kept if not self._beats(candidate, other)]
        self.kept = sorted([*stays, candidate], key=lambda c: c.size_bytes)
        if len(self.kept) > MOST:
            sizes = [c.size_bytes for c in self.kept]
            gaps = [sizes[i + 1] / sizes[i - 1] for i in range(1, len(sizes) - 1)]
            del self.kept[1 + int(np.argmin(gaps))]

    def _beats(self, one: Candidate, other: Candidate) -> bool:
        """Is ``one`` as small, not much smaller, as good, and, where both are the same, later?"""
        if not one.size_bytes <= other.size_bytes <= SAME_SIZE * one.size_bytes:
            return False
        better = self.floor.margin(one.control) - self.floor.margin(other.control)
        equal = one.size_bytes == other.size_bytes and better == 0
        return one.epoch >= other.epoch if equal else better >= 0

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
