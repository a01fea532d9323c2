"""Counts that hardware likes: a few more units stay, so that their number is a multiple."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epigram.errors import ConfigError
from epigram.records import BoolArray


def round_masks(
    keep: Mapping[str, BoolArray],
    order: Mapping[str, NDArray[Any]],
    round_to: int | Mapping[str, int],
) -> dict[str, BoolArray]:
    """Masks that keep a multiple of ``round_to`` units, or all; nothing that stays is taken away.

    Args:
        keep: Group name -> bool ``[units]``, True = stays.
        order: Group name -> removability ``[units]``; the largest go first, so of the units that
            would go those with the smallest come back.
        round_to: One number for all groups, or one per group (absent = 1: heads, for example, need
            no round number).

    Raises:
        ConfigError: a number below 1, or a group without an order of its length.

    Example:
        >>> keep = {"conv": np.array([True, False, False, True, True, False])}
        >>> round_masks(keep, {"conv": np.array([0, 5, 2, 0, 0, 3])}, 4)["conv"].astype(int)
        array([1, 0, 1, 1, 1, 0])
    """
    rounded = {}
    for name, mask in keep.items():
        multiple = round_to if isinstance(round_to, int) else round_to.get(name, 1)
        if multiple < 1:
            raise ConfigError(f"round_to of {name!r}: got {multiple}, expected at least 1")
        if name not in order or np.shape(order[name]) != mask.shape:
            raise ConfigError(
                f"order of {name!r}: got {np.shape(order.get(name, ()))}, expected {mask.shape}, "
                "the removability of each unit"
            )
        stays = np.array(mask, bool)
        dropped = np.flatnonzero(~stays)
        missing = -int(stays.sum()) % multiple
        least = np.argsort(np.asarray(order[name])[dropped], kind="stable")
        stays[dropped[least[:missing]]] = True
        rounded[name] = stays
    return rounded
