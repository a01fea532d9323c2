"""A prefix of a curve as a row of figures, and what is forecast relative to it.

Errors are on the logit scale and sizes on the log scale, so that a residual means the same at 1 % and at
10 %, at 2 kB and at 200 kB. A curve whose complexity term is still being phased in says little; how long
ago that was, and what has happened since, are features of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from epigram.search.curves import FinishedCurve, Prefix, Step

FloatArray = NDArray[np.float64]

_LEAST, _MOST = 1e-5, 1.0 - 1e-5
_RECENT = 3
_DECAYS = (0.3, 0.6, 1.0, 1.7)


def squash(error: float, *, share: bool) -> float:
    """The scale on which errors are forecast: logit of a share, log of any other positive number."""
    if share:
        inside = min(_MOST, max(_LEAST, error))
        return math.log(inside / (1.0 - inside))
    return math.log(error) if error > 1e-12 else error


def unsquash(value: FloatArray, *, share: bool, positive: bool) -> FloatArray:
    """The inverse of ``squash``."""
    if share:
        return 1.0 / (1.0 + np.exp(-value))
    return np.exp(value) if positive else value


@lru_cache(maxsize=1 << 13)
def row(prefix: Prefix, *, share: bool) -> tuple[float, ...]:
    """The features; the same length for every prefix of a study, never NaN. Kept: forecasters are fitted often."""
    errors = [squash(step.error, share=share) for step in prefix.steps]
    settled = [
        (step, error) for step, error in zip(prefix.steps, errors, strict=True) if not step.warmup
    ]
    return (
        *prefix.encoded,
        prefix.fraction,
        float(prefix.total),
        *_shape(errors),
        *_since_warmup(prefix, settled),
        *_sizes(prefix),
        _power_law(prefix, errors),
    )


def _shape(errors: Sequence[float]) -> list[float]:
    recent = errors[-_RECENT:]
    return [
        errors[-1],
        float(np.mean(recent)),
        min(errors),
        recent[-1] - recent[0],
        errors[-1] - errors[0],
        float(np.std(recent)),
    ]


def _since_warmup(prefix: Prefix, settled: Sequence[tuple[Step, float]]) -> list[float]:
    """Is the warm-up over, for how long, and what has the error done since?"""
    if not settled:
        return [0.0, 0.0, 0.0]
    length = (prefix.upto - settled[0][0].at) / max(1, prefix.total)
    return [1.0, length, settled[-1][1] - settled[0][1]]


def _sizes(prefix: Prefix) -> list[float]:
    known = [math.log(step.size) for step in prefix.steps if step.size is not None]
    if not known:
        return [0.0, 0.0, 0.0]
    return [1.0, known[-1], known[-1] - known[-_RECENT:][0]]


def _power_law(prefix: Prefix, errors: Sequence[float]) -> float:
    """Where ``a + b·t^-c`` through the settled part would end: the best c of a few, by least squares."""
    points = [
        (step.at, error)
        for step, error in zip(prefix.steps, errors, strict=True)
        if not step.warmup
    ]
    if len(points) < 3:
        return errors[-1]
    at = np.array([float(max(1, p[0])) for p in points])
    seen = np.array([p[1] for p in points])
    best = (math.inf, errors[-1])
    for decay in _DECAYS:
        basis = np.stack([np.ones_like(at), at**-decay], axis=1)
        weights, *_ = np.linalg.lstsq(basis, seen, rcond=None)
        loss = float(np.sum((basis @ weights - seen) ** 2))
        if loss < best[0]:
            best = (loss, float(weights[0] + weights[1] * float(prefix.total) ** -decay))
    return float(np.clip(best[1], min(errors) - 3.0, max(errors) + 3.0))


def last_value(prefix: Prefix, *, share: bool, typical_log_size: float) -> tuple[float, float]:
    """The baseline: nothing will change any more. Squashed error, and log size."""
    known = [step.size for step in prefix.steps if step.size is not None]
    size = math.log(known[-1]) if known else typical_log_size
    return squash(prefix.steps[-1].error, share=share), size


def targets(
    curve: FinishedCurve, prefix: Prefix, *, share: bool, typical_log_size: float
) -> tuple[float, float]:
    """What changed from the prefix to the end: squashed error, and log size."""
    error, size = last_value(prefix, share=share, typical_log_size=typical_log_size)
    return (
        squash(curve.final_error, share=share) - error,
        math.log(curve.final_size) - size,
    )
