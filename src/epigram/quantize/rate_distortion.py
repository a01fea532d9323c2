"""Symbols that cost little and lose little.

A weight w that the likelihood knows to a standard deviation s (the posterior's precision less the
prior's), told as step · q, loses (w - step · q)² / 2s² nats of likelihood over the data set. With code length
L(q) nats and a price λ, the best symbol minimises

    (w - step · q)² / 2s² + λ · L(q)

and the best step for that price follows from high-rate theory: a step loses step² / 24s² per weight
and saves λ · log step, so step² = 12 λ s².
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Symbols = NDArray[np.int32]

_LARGEST = 2**30


def step_for_price(std: Floats, price: float) -> float:
    """The step at which a nat of code is worth ``price`` nats of likelihood.

    Args:
        std: the likelihood's standard deviations of the weights that share the step, all positive.
        price: λ.

    Returns:
        The step, in the weights' unit; the mean is over precisions, as the distortion's is.
    """
    precision = np.mean(1.0 / np.square(std.astype(np.float64)))
    return float(np.sqrt(12.0 * price / precision))


def choose_symbols(
    weights: Floats,
    std: Floats,
    *,
    step: float,
    price: float,
    sweeps: int = 3,
) -> Symbols:
    """The symbols of least distortion plus price times code length.

    Candidates are the nearest symbol, the next one towards zero, and zero; code lengths are those of
    an adaptive code for the symbols chosen before, starting from plain rounding. Of all choices made on
    the way, plain rounding included, the best under its own code is returned.

    Args:
        weights: any shape.
        std: the likelihood's standard deviations, same shape.
        step: the step size.
        price: λ, nats of likelihood per nat of code.
        sweeps: how often the choice is repeated.
    """
    scaled = weights.astype(np.float64) / step
    nearest = np.clip(np.rint(scaled), -_LARGEST, _LARGEST).astype(np.int64)
    towards = nearest - np.sign(nearest)
    curvature = np.square(step / std.astype(np.float64)) / 2.0
    chosen, best, least = nearest, nearest, np.inf
    for sweep in range(sweeps + 1):
        length = code_lengths(chosen)
        total = float((curvature * np.square(scaled - chosen) + price * length(chosen)).sum())
        if total < least:
            best, least = chosen, total
        if sweep == sweeps:
            break
        options = np.stack([nearest, towards, np.zeros_like(nearest)])
        cost = curvature * np.square(scaled - options) + price * length(options)
        new = np.take_along_axis(options, np.argmin(cost, axis=0)[None], axis=0)[0]
        if (new == chosen).all():
            break
        chosen = new
    return best.astype(np.int32)


def code_lengths(symbols: NDArray[np.int64]) -> Callable[[NDArray[np.int64]], Floats]:
    """Nats per symbol of an adaptive code for magnitudes and signs, as a function of the symbol.

    Add-half estimates over the magnitudes that occur; one that does not costs as much as a single
    occurrence and two bits for each doubling beyond the largest.
    """
    magnitudes = np.abs(symbols).ravel()
    top = int(min(magnitudes.max(initial=0), 4096))
    counts = np.bincount(np.minimum(magnitudes, top), minlength=top + 1) + 0.5
    nats = np.log(counts.sum()) - np.log(counts)

    def length(q: NDArray[np.int64]) -> Floats:
        m = np.abs(q)
        beyond = 2.0 * np.log2(np.maximum(m, top + 1) / (top + 1)) * np.log(2.0)
        total: Floats = (
            nats[np.minimum(m, top)] + np.where(m > top, beyond, 0.0) + (m > 0) * np.log(2.0)
        )
        return total

    return length
