"""From removabilities to masks: which units and positions stay at a cut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epigram.convert import Twin
from epigram.convert.twin import position_key
from epigram.records import BoolArray

Removability = Mapping[str, NDArray[Any]]


def keep_below(removability: Removability, cut: float) -> dict[str, BoolArray]:
    """Per scale, the units whose removability is at most ``cut``; never none of them.

    Where all are beyond the cut the least removable one stays: a network needs a path.
    """
    keep = {}
    for name, values in removability.items():
        keep[name] = np.asarray(values) <= cut
        if len(values) and not keep[name].any():
            keep[name][int(np.argmin(values))] = True
    return keep


def settle(twin: Twin, keep: Mapping[str, BoolArray]) -> dict[str, BoolArray]:
    """Make masks of units and of their positions agree.

    A unit none of whose positions is read any more goes; positions of a unit that goes, go.

    Args:
        twin: says which positions belong to which units.
        keep: one mask per scale.
    """
    settled = {name: np.array(mask) for name, mask in keep.items()}
    for axis in twin.structure.positions:
        key = position_key(axis)
        if axis.group not in settled or key not in settled or axis.group is None:
            continue
        owner = twin.position_owners(key)
        alive = np.zeros(len(settled[axis.group]), bool)
        alive[owner[settled[key]]] = True
        alive &= settled[axis.group]
        if not alive.any():
            alive[owner[int(np.argmax(settled[key]))]] = True
        settled[axis.group] = alive
        settled[key] &= alive[owner]
        if not settled[key].any():
            settled[key] = alive[owner]
    return settled
