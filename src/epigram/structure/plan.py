"""Which indices of which axes stay: slice plans, and the structure of the network that is left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from epigram.errors import ConfigError
from epigram.records import Group, IntArray, Member, PositionAxis
from epigram.structure.grouping import SizedStructure

if TYPE_CHECKING:
    from epigram.records import BoolArray, Structure


class Plan(dict[str, dict[int, IntArray]]):
    """A slice plan, and the numbers that modules keep beside their tensors.

    ``attributes`` maps the qualified name (``encoder.0.attention.num_heads``) to its new value.
    """

    def __init__(
        self, tensors: Mapping[str, dict[int, IntArray]], attributes: Mapping[str, int]
    ) -> None:
        super().__init__(tensors)
        self.attributes = dict(attributes)


def slice_plan(structure: Structure, keep: Mapping[str, BoolArray]) -> Plan:
    """What stays of every tensor when the groups in ``keep`` lose the units marked False.

    Args:
        structure: What :func:`epigram.structure.analyse` found.
        keep: Group name -> bool ``[units]``; groups that are absent stay as they are.

    Returns:
        Tensor name -> axis -> the indices that stay, ascending; only axes that lose something. Its
        ``attributes`` are the whole numbers of modules that change with them.

    Raises:
        ConfigError: an unknown group, a mask of the wrong length, or one that leaves no unit.
    """
    tensors = {
        tensor: {axis: np.flatnonzero(stays) for axis, stays in axes.items()}
        for tensor, axes in _stays(structure, keep).items()
    }
    losing = {name: int(np.sum(mask)) for name, mask in keep.items() if not np.all(mask)}
    units = {group.name: losing.get(group.name, group.units) for group in structure.groups}
    attributes = {
        attribute.path: attribute.value(units)
        for attribute in structure.attributes
        if any(group in losing for group, _ in attribute.per_unit)
    }
    return Plan(tensors, attributes)


def rebase(structure: Structure, keep: Mapping[str, BoolArray]) -> SizedStructure:
    """The structure of the network that is left, in its own coordinates.

    Raises:
        ConfigError: as :func:`slice_plan`.
    """
    stays = _stays(structure, keep)
    masks = checked_masks(structure, keep)
    groups = tuple(
        _rebased_group(group, masks.get(group.name), stays) for group in structure.groups
    )
    positions = tuple(_rebased_positions(axis, masks, stays) for axis in structure.positions)
    shapes = {
        tensor: tuple(
            int(stays[tensor][axis].sum()) if axis in stays.get(tensor, {}) else size
            for axis, size in enumerate(shape)
        )
        for tensor, shape in getattr(structure, "shapes", {}).items()
    }
    return SizedStructure(
        groups, positions, structure.left_whole, shapes, attributes=structure.attributes
    )


def checked_masks(structure: Structure, keep: Mapping[str, BoolArray]) -> dict[str, BoolArray]:
    """``keep`` as bool arrays of the right length, each with a unit left.

    Raises:
        ConfigError: an unknown group, a mask of the wrong length, or one that leaves no unit.
    """
    units = {group.name: group.units for group in structure.groups}
    masks: dict[str, BoolArray] = {}
    for name, mask in keep.items():
        if name not in units:
            raise ConfigError(f"keep: unknown group {name!r}; groups are {sorted(units)}")
        array = np.asarray(mask)
        if array.dtype != np.bool_ or array.shape != (units[name],):
            raise ConfigError(
                f"keep[{name!r}]: got {array.dtype} {array.shape}, expected bool ({units[name]},), "
                "True for each unit that stays"
            )
        if not array.any():
            raise ConfigError(
                f"keep[{name!r}]: no unit is left; a layer needs at least one, keep the least removable"
            )
        masks[name] = array
    return masks


def _stays(structure: Structure, keep: Mapping[str, BoolArray]) -> dict[str, dict[int, BoolArray]]:
    masks = checked_masks(structure, keep)
    stays: dict[str, dict[int, BoolArray]] = {}
    for group in structure.groups:
        mask = masks.get(group.name)
        if mask is None or mask.all():
            continue
        for member in group.members:
            axes = stays.setdefault(member.tensor, {})
            if member.axis not in axes:
                axes[member.axis] = np.ones(_axis_size(structure, member), dtype=bool)
            axes[member.axis][member.index[~mask].reshape(-1)] = False
    return stays


def _axis_size(structure: Structure, member: Member) -> int:
    shapes: Mapping[str, tuple[int, ...]] = getattr(structure, "shapes", {})
    if member.tensor in shapes:
        return shapes[member.tensor][member.axis]
    return 1 + max(
        int(other.index.max())
        for group in structure.groups
        for other in group.members
        if (other.tensor, other.axis) == (member.tensor, member.axis)
    )


def _rebased_group(
    group: Group, mask: BoolArray | None, stays: Mapping[str, Mapping[int, BoolArray]]
) -> Group:
    members = []
    for member in group.members:
        index = member.index if mask is None else member.index[mask]
        index = _moved(index, stays.get(member.tensor, {}).get(member.axis))
        members.append(Member(member.tensor, member.axis, member.role, index))
    units = group.units if mask is None else int(mask.sum())
    return Group(group.name, units, tuple(members))


def _rebased_positions(
    axis: PositionAxis,
    masks: Mapping[str, BoolArray],
    stays: Mapping[str, Mapping[int, BoolArray]],
) -> PositionAxis:
    kept = stays.get(axis.tensor, {}).get(axis.axis)
    if kept is None or axis.index is None or axis.group is None:
        return axis
    index = _moved(axis.index[kept], masks.get(axis.group))
    return PositionAxis(axis.name, axis.tensor, axis.axis, int(kept.sum()), axis.group, index)


def _moved(index: IntArray, stays: BoolArray | None) -> IntArray:
    """Old indices (all of which stay) in the coordinates of what is left."""
    if stays is None:
        return index
    return (np.cumsum(stays) - 1)[index].astype(np.int64)
