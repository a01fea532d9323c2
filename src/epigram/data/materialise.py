"""Whatever a caller has as a data set -> one tensor of inputs and one of targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from epigram.errors import DataError


def as_pair(data: Any, name: str) -> tuple[Tensor, Tensor]:
    """Inputs and targets of ``data``: a pair of tensors or arrays, or a map-style dataset.

    Raises:
        DataError: ``data`` is something else, an item is not a pair, or the items do not stack.
    """
    if isinstance(data, TensorDataset):
        data = data.tensors
    if isinstance(data, tuple | list) and all(isinstance(x, Tensor | np.ndarray) for x in data):
        if len(data) != 2:
            raise DataError(f"{name}: got {len(data)} tensors, expected two: inputs and targets")
        return _tensor(data[0], f"{name}.inputs"), _tensor(data[1], f"{name}.targets")
    if isinstance(data, DataLoader):
        raise DataError(
            f"{name}: got a DataLoader, expected a data set; pass its `.dataset` "
            "(epigram makes the batches itself, so that a run can be continued to the bit)"
        )
    if isinstance(data, IterableDataset) or not (
        hasattr(data, "__getitem__") and hasattr(data, "__len__")
    ):
        raise DataError(
            f"{name}: got {type(data).__name__}, expected a TensorSet, a pair (inputs, targets) "
            "of tensors, or a map-style dataset with `len` and `[i]`"
        )
    return _read_items(data, name)


def _read_items(data: Any, name: str) -> tuple[Tensor, Tensor]:
    if len(data) == 0:
        raise DataError(f"{name}: got no examples, expected at least one")
    inputs: list[Tensor] = []
    targets: list[Tensor] = []
    for i in range(len(data)):
        item = data[i]
        if not (isinstance(item, Sequence) and not isinstance(item, str) and len(item) == 2):
            raise DataError(
                f"{name}: item {i} is {_kind(item)}, expected a pair (input, target); "
                "wrap the data set so that it returns one"
            )
        inputs.append(_tensor(item[0], f"{name}: input of item {i}"))
        targets.append(_tensor(item[1], f"{name}: target of item {i}"))
    return _stack(inputs, f"{name}: input"), _stack(targets, f"{name}: target")


def _stack(items: list[Tensor], where: str) -> Tensor:
    first = items[0]
    for i, item in enumerate(items):
        if item.shape != first.shape or item.dtype != first.dtype:
            raise DataError(
                f"{where} of item {i} is {item.dtype} of shape {tuple(item.shape)}, expected "
                f"{first.dtype} of shape {tuple(first.shape)} as in item 0; "
                "resize, crop or pad them alike"
            )
    return torch.stack(items)


def _tensor(value: Any, where: str) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, np.ndarray | np.generic | int | float):
        return torch.as_tensor(value)
    raise DataError(
        f"{where} is {_kind(value)}, expected a tensor, an array or a number; "
        "for pictures give the data set a transform such as torchvision's PILToTensor"
    )


def _kind(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
