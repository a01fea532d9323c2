"""Labels and their classes: a vectorised union-find over the elements of activations.

Every element of an activation carries an integer label. Elements whose labels end in one class can
only be removed together. Two labels are special and are never merged with others: what meets them is
*pinned* (must stay), with the cause written down.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

    from epigram.records import BoolArray, IntArray

OPAQUE = 0
"""The label of what always stays: constants, and results of operations that mix units."""
INPUT = 1
"""The label of the network's own input (moved about, or changed element by element)."""

_ROOM = 1 << 12


@dataclass(frozen=True)
class Cause:
    """Why labels must stay: the operation, the module it ran in, and a sentence.

    ``natural`` marks the network's own outputs, which nobody would expect to shrink.
    """

    operation: str
    where: str
    reason: str
    natural: bool = False


_SPECIAL = Cause("input", "forward", "the network's input stays as it is", natural=True)


class Pins:
    """Why classes stay, for all classes at once: a table of places in a list of causes."""

    def __init__(self, count: int) -> None:
        self._causes = [_SPECIAL]
        self._natural = np.ones(1, dtype=bool)
        self._cause_of = np.full(count, -1, dtype=np.int32)
        self._cause_of[[OPAQUE, INPUT]] = 0

    def add(self, classes: IntArray, cause: Cause) -> None:
        """These stay: for this cause, unless there is one already; being the output comes first."""
        known = self._cause_of[classes]
        new = (known < 0) | ~self._natural[known] if cause.natural else known < 0
        if new.any():
            self._cause_of[classes[new]] = len(self._causes)
            self._causes.append(cause)
            self._natural = np.append(self._natural, cause.natural)

    def free(self, classes: IntArray) -> BoolArray:
        """Which of these classes nothing holds."""
        free: BoolArray = self._cause_of[classes] < 0
        return free

    def __contains__(self, label: int) -> bool:
        return int(self._cause_of[label]) >= 0

    def __getitem__(self, label: int) -> Cause:
        place = int(self._cause_of[label])
        if place < 0:
            raise KeyError(label)
        return self._causes[place]


class LabelSpace:
    """All labels of one network, which of them belong together and which are pinned."""

    def __init__(self) -> None:
        self._room: IntArray = np.arange(_ROOM, dtype=np.int64)
        self._parent: IntArray = self._room[:2]
        self._pins: list[tuple[IntArray, Cause]] = []

    def fresh(self, count: int) -> Tensor:
        """``count`` new labels, each a class of its own; shape ``[count]``."""
        start, end = len(self._parent), len(self._parent) + count
        if end > len(self._room):  # by factors, so that what was there is seldom copied
            room = np.arange(max(end, 2 * len(self._room)), dtype=np.int64)
            room[:start] = self._parent
            self._room = room
        self._parent = self._room[:end]
        return torch.arange(start, end)

    def find(self, labels: IntArray) -> IntArray:
        """The smallest label of each label's class; same shape."""
        root = self._parent[labels]
        while True:
            above = self._parent[root]
            if np.array_equal(above, root):
                break
            root = above
        self._parent[labels] = root
        return root

    def roots(self, labels: Tensor) -> IntArray:
        """:meth:`find` of a label tensor, as an array of the same shape."""
        return self.find(labels.numpy())

    def classes(self, labels: Tensor) -> IntArray:
        """Which classes occur in a label tensor, each once."""
        (labels,) = _without_repeats(labels)
        return np.unique(self.find(labels.reshape(-1).numpy()))

    def unite(self, first: Tensor, second: Tensor, cause: Cause) -> bool:
        """Merge classes element by element; what meets a special label is pinned instead. Was any merged?"""
        first, second = _without_repeats(first, second)
        a, b = first.reshape(-1).numpy(), second.reshape(-1).numpy()
        differs = a != b
        a, b = a[differs], b[differs]
        special = (a <= INPUT) | (b <= INPUT)
        if special.any():
            self._note_pins(np.maximum(a, b)[special], cause)
            a, b = a[~special], b[~special]
        return self._merge(a, b) if len(a) else False

    def tie(self, labels: Tensor, dims: Iterable[int], cause: Cause) -> bool:
        """Merge all labels along ``dims``: these positions go or stay together. Was any merged?"""
        along = [dim for dim in dims if labels.shape[dim] > 1 and labels.stride(dim)]
        merged = [
            self.unite(labels, labels.narrow(dim, 0, 1).expand_as(labels), cause) for dim in along
        ]
        return any(merged)

    def collapse(self, labels: Tensor, keep: int, cause: Cause) -> Tensor:
        """Tie all dimensions but ``keep`` and return the labels along it; shape ``[size]``."""
        others = [d for d in range(labels.dim()) if d != keep]
        self.tie(labels, others, cause)
        for dim in reversed(others):
            labels = labels.select(dim, 0)
        return labels.clone()

    def varying(self, labels: Tensor) -> list[int]:
        """The dimensions along which elements belong to different classes."""
        candidates = [d for d in range(labels.dim()) if labels.shape[d] > 1 and labels.stride(d)]
        if not candidates:
            return []
        (compact,) = _without_repeats(labels)
        roots = self.find(compact.numpy())
        return [d for d in candidates if bool((roots != roots.take([0], axis=d)).any())]

    def all_differ(self, labels: Tensor, dim: int) -> bool:
        """Are the classes along one dimension (at the start of the others) all different?"""
        for other in reversed(range(labels.dim())):
            if other != dim:
                labels = labels.select(other, 0)
        return len(np.unique(self.roots(labels))) == labels.numel()

    def compact(self, labels: Tensor) -> Tensor:
        """The same classes, without memory for the dimensions along which they repeat."""
        varying = self.varying(labels)
        for dim in range(labels.dim()):
            if dim not in varying and labels.shape[dim] > 1 and labels.stride(dim):
                labels = labels.narrow(dim, 0, 1).expand(labels.shape)
        return labels

    def pin(self, labels: Tensor, cause: Cause) -> None:
        """Write down that these labels must stay."""
        (labels,) = _without_repeats(labels)
        self._note_pins(labels.reshape(-1).numpy(), cause)

    def pins(self) -> Pins:
        """Class -> why it stays: an output if it reaches one unmixed, else the first cause met."""
        found = Pins(len(self._parent))
        for labels, cause in self._pins:
            found.add(self.find(labels), cause)
        return found

    def _note_pins(self, labels: IntArray, cause: Cause) -> None:
        labels = np.unique(labels)
        labels = labels[labels > INPUT]
        if len(labels):
            self._pins.append((labels, cause))

    def _merge(self, a: IntArray, b: IntArray) -> bool:
        count, merged = len(self._parent), False
        while True:
            a, b = self.find(a), self.find(b)
            differs = a != b
            if not differs.any():
                return merged
            merged = True
            low, high = np.minimum(a, b)[differs], np.maximum(a, b)[differs]
            pairs = np.unique(high * count + low)
            a, b = pairs // count, pairs % count
            self._parent[a] = b


def _without_repeats(*tensors: Tensor) -> Sequence[Tensor]:
    """Drop the dimensions along which all of these equally shaped tensors repeat (stride 0)."""
    for dim in range(tensors[0].dim()):
        if tensors[0].shape[dim] > 1 and all(t.stride(dim) == 0 for t in tensors):
            tensors = tuple(t.narrow(dim, 0, 1) for t in tensors)
    return tensors
