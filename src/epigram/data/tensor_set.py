"""A labelled data set that is two tensors: checked once, then only indexed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from epigram.data.materialise import as_pair
from epigram.errors import DataError

Index: TypeAlias = Tensor | NDArray[Any] | Sequence[Any] | slice

_ROWS_PER_CHECK = 4096  # bounds the memory that the search for NaN takes


@dataclass(frozen=True, eq=False)
class TensorSet:
    """Inputs and targets in memory; example ``i`` is ``(inputs[i], targets[i])``.

    Images stay in the type they came in (uint8: a quarter of the memory, and faster to gather than
    fp32 rows). Integer targets are kept as int64, which torch's losses ask for. The tensors are not
    copied; whoever changes them afterwards changes the set, and its fingerprint is out of date.

    Args:
        inputs: One row per example, ``[examples, *shape]``.
        targets: Class labels ``[examples]``, or anything with one row per example.
        name: What messages call the set.
        num_classes: When given, targets must be integers in ``[0, num_classes)``.

    Raises:
        DataError: no examples, lengths that differ, a NaN or infinity, a label out of range.

    Example:
        >>> x, y = torch.zeros(4, 1, 28, 28, dtype=torch.uint8), torch.tensor([5, 0, 4, 1])
        >>> len(TensorSet(x, y, "four digits", num_classes=10).subset([0, 2]))
        2
    """

    inputs: Tensor
    targets: Tensor
    name: str = "data"
    num_classes: int | None = None

    def __post_init__(self) -> None:
        _check_lengths(self.inputs, self.targets, self.name)
        _check_finite(self.inputs, f"{self.name}.inputs")
        _check_finite(self.targets, f"{self.name}.targets")
        if not self.targets.is_floating_point():
            object.__setattr__(self, "targets", self.targets.long())
        if self.num_classes is not None:
            _check_labels(self.targets, self.num_classes, self.name)

    @classmethod
    def of(cls, data: Any, *, name: str = "data", num_classes: int | None = None) -> TensorSet:
        """The set that ``data`` describes.

        Args:
            data: A ``TensorSet``; a pair of tensors or arrays; or a map-style dataset (``len`` and
                ``[i] -> (input, target)``), every item of which is read into memory.
            name: What messages call the set (a ``TensorSet`` keeps its own name).
            num_classes: As in the constructor.

        Raises:
            DataError: ``data`` is none of these, or its items do not stack.
        """
        if isinstance(data, cls):
            if num_classes in (None, data.num_classes):
                return data
            return cls(data.inputs, data.targets, data.name, num_classes)
        inputs, targets = as_pair(data, name)
        return cls(inputs, targets, name, num_classes)

    def __len__(self) -> int:
        return int(self.inputs.shape[0])

    def subset(self, index: Index, *, name: str | None = None) -> TensorSet:
        """The examples at ``index`` (integers, a mask or a slice), copied, in that order.

        Raises:
            DataError: nothing selected, or an index outside the set.
        """
        rows = _rows(index, len(self), self.name).to(self.inputs.device)
        return TensorSet(
            self.inputs.index_select(0, rows),
            self.targets.index_select(0, rows),
            name or self.name,
            self.num_classes,
        )

    def to(self, device: torch.device | str) -> TensorSet:
        """The same set on ``device``; itself when it is there already."""
        inputs, targets = self.inputs.to(device), self.targets.to(device)
        if inputs is self.inputs and targets is self.targets:
            return self
        moved = object.__new__(TensorSet)  # checked already, and the fingerprint still holds
        moved.__dict__.update(self.__dict__ | {"inputs": inputs, "targets": targets})
        return moved

    def fingerprint(self) -> str:
        """sha256, in hexadecimal, over contents, shapes and types; computed once.

        Neither the name nor the device enters: equal data has an equal fingerprint.
        """
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for tensor in (self.inputs, self.targets):
            plain = tensor.detach().cpu().contiguous()
            digest.update(f"{plain.dtype} {tuple(plain.shape)}\n".encode())
            digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def __repr__(self) -> str:
        shape = "x".join(str(size) for size in self.inputs.shape[1:])
        kind = str(self.inputs.dtype).removeprefix("torch.")
        return f"TensorSet({self.name!r}, {len(self)} examples, {kind} {shape})"


def _check_lengths(inputs: Tensor, targets: Tensor, name: str) -> None:
    for part, tensor in (("inputs", inputs), ("targets", targets)):
        if tensor.ndim == 0:
            raise DataError(f"{name}.{part}: got a scalar, expected one row per example")
    if len(inputs) != len(targets):
        raise DataError(
            f"{name}: got {len(inputs)} inputs and {len(targets)} targets, "
            "expected as many of the one as of the other"
        )
    if len(inputs) == 0:
        raise DataError(f"{name}: got no examples, expected at least one")


def _check_finite(tensor: Tensor, where: str) -> None:
    if not tensor.is_floating_point():
        return
    for start in range(0, len(tensor), _ROWS_PER_CHECK):
        finite = torch.isfinite(tensor[start : start + _ROWS_PER_CHECK])
        if not bool(finite.all()):
            row = int((~finite).reshape(len(finite), -1).any(dim=1).nonzero()[0])
            value = tensor[start + row][~finite[row]].reshape(-1)[0].item()
            raise DataError(
                f"{where}: example {start + row} holds {value}, expected finite numbers; "
                "remove or repair it"
            )


def _check_labels(targets: Tensor, num_classes: int, name: str) -> None:
    if targets.is_floating_point():
        raise DataError(f"{name}.targets: got {targets.dtype}, expected integer class labels")
    wrong = ((targets < 0) | (targets >= num_classes)).nonzero()
    if len(wrong):
        position = tuple(int(i) for i in wrong[0])
        raise DataError(
            f"{name}.targets: example {position[0]} has label {int(targets[position])}, "
            f"expected 0 to {num_classes - 1}"
        )


def _rows(index: Index, length: int, name: str) -> Tensor:
    if isinstance(index, slice):
        rows = torch.arange(length)[index]
    else:
        rows = torch.as_tensor(np.asarray(index) if isinstance(index, Sequence) else index)
    if rows.dtype == torch.bool:
        if rows.shape != (length,):
            raise DataError(
                f"{name}: got a mask of shape {tuple(rows.shape)}, expected ({length},)"
            )
        rows = rows.nonzero().reshape(-1)
    if rows.numel() == 0:
        raise DataError(f"{name}: the subset is empty, expected at least one example")
    if rows.ndim != 1 or rows.is_floating_point():
        raise DataError(
            f"{name}: got an index of {rows.dtype} and shape {tuple(rows.shape)}, "
            "expected a row of integers"
        )
    outside = rows[(rows < 0) | (rows >= length)]
    if len(outside):
        raise DataError(f"{name}: index {int(outside[0])} is outside, expected 0 to {length - 1}")
    return rows.long()
