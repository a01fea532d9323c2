"""Is a network as often right as it claims to be?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from epigram.records import BoolArray, IntArray

BINS = 15  # as in Guo et al. 2017


@dataclass(frozen=True, eq=False)
class CalibrationBins:
    """Answers sorted by confidence into bins of equal width; bin m is ((m - 1) / M, m / M].

    Attributes:
        confidence: Mean confidence of the answers in each bin, 0 where it is empty.
        accuracy: Fraction of right answers in each bin, 0 where it is empty.
        count: Answers in each bin.
    """

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    count: IntArray

    def error(self) -> float:
        """Expected calibration error: sum over bins of count / n * |accuracy - confidence|.

        References:
            Guo, Pleiss, Sun, Weinberger 2017, "On calibration of modern neural networks", eq. 3.
        """
        total = int(self.count.sum())
        if total == 0:
            return float("nan")
        gaps = np.abs(self.accuracy - self.confidence)
        return float((self.count * gaps).sum() / total)


def calibration_bins(
    confidence: NDArray[np.float64], correct: BoolArray, *, bins: int = BINS
) -> CalibrationBins:
    """Sort answers into bins; those without a number for a confidence are left out.

    Args:
        confidence: Probability given to each answer, in [0, 1]; shape ``[examples]``.
        correct: Whether the answer was right.
        bins: Their number, M.
    """
    known = np.isfinite(confidence)
    confidence, correct = confidence[known], correct[known]
    which = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(which, minlength=bins)
    filled = np.maximum(count, 1)
    return CalibrationBins(
        confidence=np.bincount(which, weights=confidence, minlength=bins) / filled,
        accuracy=np.bincount(which, weights=correct, minlength=bins) / filled,
        count=count.astype(np.int64),
    )
