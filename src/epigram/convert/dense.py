"""What is left of a twin, drawn where it was in the original."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epigram.convert.twin import Twin
from epigram.structure import slice_plan


def dense_weights(
    twin: Twin,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    values: Mapping[str, NDArray[Any]] | None = None,
) -> dict[str, NDArray[np.floating[Any]]]:
    """Weights in the original's coordinates; what was removed is NaN.

    Args:
        twin: the twin, shrunken or not.
        shapes: which tensors are wanted, with their shapes in the original.
        values: the small network's tensors; None = the twin's posterior means.
    """
    masks = twin.kept_masks()
    groups = {group.name for group in twin.dense_structure.groups}
    plan = slice_plan(twin.dense_structure, {n: m for n, m in masks.items() if n in groups})
    if values is None:
        values = {name: tensor.mean for name, tensor in twin.posterior().items()}
    live = twin.live_positions()
    found = {}
    for name, shape in shapes.items():
        small = np.array(values[name], dtype=np.float32)
        if name in live:
            small[:, ~live[name]] = np.nan
        axes = [plan.get(name, {}).get(axis, np.arange(n)) for axis, n in enumerate(shape)]
        found[name] = np.full(shape, np.nan, dtype=np.float32)
        found[name][np.ix_(*axes)] = small
    return found
