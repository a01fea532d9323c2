"""Vectors that nothing is known of but their values: biases, normalisation. They are few and felt by every output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epigram.records import CodedTensor, RawTensor

Floats = NDArray[np.floating[Any]]


def told_finely(
    name: str,
    dense_shape: tuple[int, ...],
    values: Floats,
    representable_step: Callable[[float], float],
) -> CodedTensor | RawTensor:
    """At a step that no output feels; as it is where a file cannot say such a step.

    Args:
        name: the tensor's.
        dense_shape: the original's.
        values: finite, any shape.
        representable_step: rounds a step to one that the file can say.
    """
    if not values.any():
        return CodedTensor(name, dense_shape, np.zeros(values.shape, np.int32), 1.0)
    step = vector_step(values)
    if not 2.0**-120 < step < 2.0**100:
        return RawTensor(name, dense_shape, values.astype(np.float32))
    step = representable_step(step)
    return CodedTensor(name, dense_shape, np.rint(values / step).astype(np.int32), step)


def vector_step(values: Floats) -> float:
    """2**-9 of a vector's root mean square; where all have one sign, also 2**-6 of the smallest.

    Variances are divided by, so it is their relative error that counts.
    """
    step = float(np.sqrt(np.mean(np.square(values)))) * 2.0**-9
    least = float(np.abs(values).min())
    if least > 0 and (np.sign(values) == np.sign(values.flat[0])).all():
        step = min(step, max(least * 2.0**-6, step * 2.0**-8))
    return step
