"""What is wanted: the least size subject to a floor, in the form in which it can be searched for.

Feasible runs are ordered by size; the others by how far they fall short. A sampler sees log(size) as
objective and log(error / limit) as constraint, where the *error* is what the floor bounds from above.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from epigram.errors import ConfigError
from epigram.records import Floor

_CLIP = 6.0
"""Logarithms of ratios beyond e^6 are told as that: an outlier must not set the scale of a model."""


@dataclass(frozen=True)
class Objective:
    """The least ``size_key`` subject to ``floor``.

    Args:
        floor: the least acceptable value of a metric.
        size_key: what is made small, a positive number in ``result.json``: bytes, or anything else.
        margin: how many standard errors a trial has to lie above the floor to count while searching.

    Raises:
        ConfigError: the margin is negative.

    Example:
        >>> wanted = Objective(Floor.parse("accuracy>=0.98"))
        >>> round(wanted.error(0.97), 6), round(wanted.limit, 6)
        (0.03, 0.02)
        >>> wanted.violation(0.97) > 0 > wanted.violation(0.99)
        True
    """

    floor: Floor
    size_key: str = "size_bytes"
    margin: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.margin) and self.margin >= 0):
            raise ConfigError(f"margin: got {self.margin!r}, expected a number >= 0")

    @property
    def is_share(self) -> bool:
        """Is the metric a share of examples, so that its noise is binomial?"""
        if self.floor.larger_is_better:
            return 0.0 < self.floor.value < 1.0
        return "error" in self.floor.metric and 0.0 < self.floor.value < 1.0

    @property
    def limit(self) -> float:
        """What the error may be at most."""
        return self.error(self.floor.value)

    def error(self, metric: float) -> float:
        """The metric as something that is to stay small: accuracy 0.98 is an error of 0.02."""
        if not self.floor.larger_is_better:
            return metric
        return 1.0 - metric if self.is_share else -metric

    def metric(self, error: float) -> float:
        """The inverse of ``error``."""
        if not self.floor.larger_is_better:
            return error
        return 1.0 - error if self.is_share else -error

    def standard_error(self, metric: float, examples: int | None) -> float:
        """Of a share of so many examples; 0 where that is not known. Never 0 for a perfect score."""
        if not self.is_share or not examples:
            return 0.0
        share = min(1.0, max(0.0, self.error(metric)))
        share = min(max(share, 1.0 / examples), 1.0 - 1.0 / (examples + 1))
        return math.sqrt(share * (1.0 - share) / examples)

    def violation(
        self, metric: float, *, examples: int | None = None, margin: float | None = None
    ) -> float:
        """At most 0 where the floor is met with the margin; log(error / limit) where that exists.

        Finite for every metric, NaN included (which counts as the worst there can be).
        """
        if math.isnan(metric):
            return _CLIP
        k = self.margin if margin is None else margin
        error = self.error(metric) + k * self.standard_error(metric, examples)
        limit = self.limit
        if limit > 0:
            ratio = math.log(max(error, 1e-12) / limit) if error < math.inf else _CLIP
        else:  # no logarithm of such a limit: the difference, on the limit's own scale
            ratio = (error - limit) / max(abs(limit), 1e-12)
        return min(_CLIP, max(-_CLIP, ratio))

    def feasible(
        self, metric: float, *, examples: int | None = None, margin: float | None = None
    ) -> bool:
        """Is the floor met with the margin?"""
        return self.violation(metric, examples=examples, margin=margin) <= 0.0

    def order(
        self, metric: float, size: float, *, examples: int | None = None
    ) -> tuple[float, float]:
        """What to sort by: the violation first, as far as there is one, then the size."""
        return max(0.0, self.violation(metric, examples=examples)), size


def log_size(size: float) -> float:
    """The logarithm that samplers see; finite for every positive size."""
    return math.log(min(max(size, 1e-9), 1e18))
