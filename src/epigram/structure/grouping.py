"""From classes of labels to the records of a structure: groups, position axes, what stays whole."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from epigram.records import Group, LeftWhole, Member, PositionAxis, Structure
from epigram.structure.labels import INPUT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from epigram.records import BoolArray, IntArray
    from epigram.structure.labels import Cause, Pins
    from epigram.structure.notes import Use
    from epigram.structure.propagate import Propagation


@dataclass(frozen=True)
class SizedStructure(Structure):
    """A structure that also knows the shapes of the model's tensors, ``name -> shape``.

    An axis may hold more than the units of groups (columns that read something pinned beside them),
    so its size cannot be told from the groups alone.
    """

    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def describe(propagation: Propagation, shapes: Mapping[str, tuple[int, ...]]) -> SizedStructure:
    """The structure that the labels of a finished propagation amount to."""
    pins = propagation.space.pins()
    axes = [_Axis(use, propagation.space.roots(use.labels), pins) for use in propagation.uses]
    groups, unusable = _groups(axes)
    left = _left_whole(axes, pins, propagation.whole) + unusable
    return SizedStructure(tuple(groups), tuple(_positions(axes, groups)), tuple(left), shapes)


def owners(structure: Structure, propagation: Propagation) -> dict[int, str]:
    """Class of labels -> the group whose unit it is."""
    uses = {(use.tensor, use.axis, use.role): use for use in propagation.uses}
    found: dict[int, str] = {}
    for group in structure.groups:
        member = next(member for member in group.members if member.role == "produces")
        roots = propagation.space.roots(uses[member.tensor, member.axis, member.role].labels)
        found.update(dict.fromkeys(roots[member.index[:, 0]].tolist(), group.name))
    return found


class _Axis:
    """One use of a tensor axis with the class of each index (``free``: those that may go)."""

    def __init__(self, use: Use, roots: IntArray, pins: Pins) -> None:
        self.use, self.roots = use, roots
        self.order = np.argsort(roots, kind="stable")
        self.classes, self.starts, self.counts = np.unique(
            roots[self.order], return_index=True, return_counts=True
        )
        self.free = pins.free(self.classes)

    def index(self, classes: IntArray) -> IntArray:
        """The indices of each class along this axis; shape ``[classes, k]``."""
        at = np.searchsorted(self.classes, classes)
        starts, count = self.starts[at], int(self.counts[at[0]])
        index: IntArray = self.order[starts[:, None] + np.arange(count)].astype(np.int64)
        return index

    def consumed(self, labels: list[int]) -> BoolArray | None:
        """Which indices a product consumes, if those of these classes are, equally many of each."""
        if self.use.consumed is None:
            return None
        counts = {int((self.use.consumed & (self.roots == label)).sum()) for label in labels}
        return self.use.consumed if len(counts) == 1 and counts != {0} else None


def _groups(axes: list[_Axis]) -> tuple[list[Group], list[LeftWhole]]:
    """Classes that live on the same axes with the same counts are the units of one group."""
    signatures: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for position, axis in enumerate(axes):
        for label, count in zip(axis.classes[axis.free], axis.counts[axis.free], strict=True):
            signatures[int(label)].append((position, int(count)))
    alike: dict[tuple[tuple[int, int], ...], list[int]] = defaultdict(list)
    for label, places in signatures.items():
        alike[tuple(places)].append(label)
    found: list[tuple[int, Group]] = []
    left: list[LeftWhole] = []
    for signature, labels in alike.items():
        roles = {axes[position].use.role for position, _ in signature}
        if "produces" not in roles:
            continue
        first = next(p for p, _ in signature if axes[p].use.role == "produces")
        name = module_name(axes[first].use.tensor)
        consumed = any(axes[p].consumed(labels) is not None for p, _ in signature)
        if "reads" not in roles and not consumed:
            reason = "no layer reads its units, so nothing says whether they matter"
            left.append(LeftWhole(name, axes[first].use.operation, reason))
            continue
        if len(labels) == 1 and dict(signature)[first] > 1:
            reason = "all its units hang together: without them there is no layer"
            left.append(LeftWhole(name, axes[first].use.operation, reason))
            continue
        found.append((first, _group(name, axes, signature, labels, first)))
    found.sort(key=lambda pair: pair[0])
    return _distinct([group for _, group in found]), left


def _group(
    name: str, axes: list[_Axis], signature: tuple[tuple[int, int], ...], labels: list[int], by: int
) -> Group:
    classes = np.array(sorted(labels), dtype=np.int64)
    classes = classes[np.argsort(axes[by].index(classes)[:, 0], kind="stable")]
    members = []
    for position, _ in signature:
        axis = axes[position]
        tensor, along, index = axis.use.tensor, axis.use.axis, axis.index(classes)
        members.append(Member(tensor, along, axis.use.role, index))
        consumed = axis.consumed(labels)
        if consumed is not None:
            shape = (len(classes), -1)
            members.append(Member(tensor, along, "consumed", index[consumed[index]].reshape(shape)))
    return Group(name, len(classes), tuple(members))


def _distinct(groups: list[Group]) -> list[Group]:
    """A layer whose units fall into several groups gives the later ones a number: ``conv:2``."""
    taken: dict[str, int] = defaultdict(int)
    named = []
    for group in groups:
        taken[group.name] += 1
        count = taken[group.name]
        named.append(
            group if count == 1 else Group(f"{group.name}:{count}", group.units, group.members)
        )
    return named


def _positions(axes: list[_Axis], groups: list[Group]) -> list[PositionAxis]:
    found = []
    for axis in axes:
        use = axis.use
        if use.role != "reads" or not use.single:
            continue
        name, size = module_name(use.tensor), len(axis.roots)
        if bool((axis.roots == INPUT).all()):
            found.append(PositionAxis(name, use.tensor, use.axis, size, None, None))
            continue
        for group in groups:
            for member in group.members:
                same = (member.tensor, member.axis, member.role) == (use.tensor, use.axis, "reads")
                if same and member.index.size == size and member.index.shape[1] > 1:
                    index = np.empty(size, dtype=np.int64)
                    index[member.index] = np.arange(group.units)[:, None]
                    found.append(PositionAxis(name, use.tensor, use.axis, size, group.name, index))
    return found


def _left_whole(axes: list[_Axis], pins: Pins, whole: list[Cause]) -> list[LeftWhole]:
    """Layers some of whose units are pinned by something else than being the network's output.

    Those without a tensor that produces units (``whole``) are named by the module they run in.
    """
    found = {cause.where: LeftWhole(cause.where, cause.operation, cause.reason) for cause in whole}
    for axis in axes:
        if axis.use.role != "produces":
            continue
        name = module_name(axis.use.tensor)
        if name in found:
            continue
        for label in axis.classes[~axis.free].tolist():
            cause = pins[label]
            if not cause.natural and name not in found:
                found[name] = LeftWhole(name, cause.operation, f"{cause.reason} (in {cause.where})")
    return list(found.values())


def module_name(tensor: str) -> str:
    """The module a tensor belongs to; the tensor's own name where that is the model itself."""
    return tensor.rpartition(".")[0] or tensor
