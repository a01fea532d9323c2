"""Files that a stage passed on its way: none of them is beaten in size and metric by another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from epigram.records import Floor

MOST = 24


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
        """Keep it unless a kept one is as small and as good; drop those that it beats.

        The later of two equals is kept. Where there are too many, the one goes whose neighbours are
        nearest in size.
        """
        if not np.isfinite(candidate.control):
            return
        margin = self.floor.margin
        if any(
            other.size_bytes <= candidate.size_bytes
            and margin(other.control) >= margin(candidate.control)
            and (other.size_bytes, other.control) != (candidate.size_bytes, candidate.control)
            for other in self.kept
        ):
            return
        stays = [
            other
            for other in self.kept
            if other.size_bytes < candidate.size_bytes
            or margin(other.control) > margin(candidate.control)
        ]
        self.kept = sorted([*stays, candidate], key=lambda c: c.size_bytes)
        if len(self.kept) > MOST:
            sizes = [c.size_bytes for c in self.kept]
            gaps = [sizes[i + 1] / sizes[i - 1] for i in range(1, len(sizes) - 1)]
            del self.kept[1 + int(np.argmin(gaps))]

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
