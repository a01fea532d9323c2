"""From removabilities to masks: which units and positions stay at a cut."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epigram.convert import Twin, position_key
from epigram.records import BoolArray, Group
from epigram.structure import round_masks

_LOG = logging.getLogger(__name__)

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

    Positions of a unit that goes, go. A unit goes when none of its positions is read any more by
    any of its readers, provided that all of them read it position by position.

    Args:
        twin: says which positions belong to which units.
        keep: one mask per scale.
    """
    settled = {name: np.array(mask) for name, mask in keep.items()}
    for group in twin.structure.groups:
        if group.name in settled:
            _settle(twin, group, settled)
    return settled


def exact(twin: Twin, keep: Mapping[str, BoolArray]) -> dict[str, BoolArray]:
    """Masks of a cut that is exact: groups whose part in it is not stay whole, and the log says why.

    Args:
        twin: it is not changed.
        keep: one mask per scale; units and positions agree.
    """
    if not twin.why_not(keep):
        return dict(keep)
    groups = [group.name for group in twin.structure.groups if group.name in keep]
    found = {
        name: np.ones_like(mask) if name in groups else np.array(mask)
        for name, mask in keep.items()
    }
    for name in groups:
        if keep[name].all():
            continue
        reason = twin.why_not({**found, name: keep[name]})
        if not reason:
            found[name] = np.array(keep[name])
            continue
        _LOG.warning(
            "%s keeps its %d units for now: with %d of them the smaller network is not the masked one (%s)",
            name,
            keep[name].size,
            keep[name].sum(),
            reason,
        )
    return found


def rounded(
    twin: Twin, keep: Mapping[str, BoolArray], removability: Removability, round_to: int
) -> dict[str, BoolArray]:
    """Masks that leave round numbers of rows: the least removable units come back, with their positions.

    A unit that is several rows of a layer (a head, a channel of every group) counts as so many.

    Args:
        twin: says which units are how many rows, and which positions are theirs.
        keep: one mask per scale; units and positions agree.
        removability: of each unit.
        round_to: of what the number of rows shall be a multiple; groups that have not enough stay whole.
    """
    result = {name: np.array(mask) for name, mask in keep.items()}
    if round_to == 1:
        return result
    groups = [group for group in twin.structure.groups if group.name in result]
    multiples = {group.name: round_to // math.gcd(round_to, _rows(group)) for group in groups}
    units = {name: result[name] for name in multiples}
    for name, mask in round_masks(units, removability, multiples).items():
        came_back, result[name] = mask & ~result[name], mask
        for axis in twin.structure.positions:
            key = position_key(axis)
            if axis.group == name and key in result:
                result[key] = result[key] | came_back[twin.position_owners(key)]
    return result


def _rows(group: Group) -> int:
    """How many rows of the layer that produces it one unit is."""
    return int(next(m.index.shape[1] for m in group.members if m.role == "produces"))


def _settle(twin: Twin, group: Group, settled: dict[str, BoolArray]) -> None:
    axes = {
        axis.tensor: position_key(axis)
        for axis in twin.structure.positions
        if axis.group == group.name and position_key(axis) in settled
    }
    owners = {key: twin.position_owners(key) for key in axes.values()}
    alive = settled[group.name]
    if owners and {m.tensor for m in group.members if m.role == "reads"} <= axes.keys():
        read = np.zeros(len(alive), bool)
        for key, owner in owners.items():
            read[owner[settled[key]]] = True
        if (alive & read).any():
            alive &= read
    if not alive.any():
        alive[0] = True
    for key, owner in owners.items():
        settled[key] &= alive[owner]
        if not settled[key].any():
            settled[key] = alive[owner]
