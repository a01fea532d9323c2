"""Rows that values choose (``h[mask]``): a layer that reads them does not read the examples, even where all are chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

_CHOOSING = frozenset(
    ["argwhere", "masked_select", "nonzero", "unique", "unique_consecutive", "unique_dim"]
)


class Choices:
    """What comes of choices by values, through all the calls of one forward pass.

    Followed are results whose first axis is as long as that of a chosen tensor among the arguments.
    """

    def __init__(self) -> None:
        self._rows: dict[int, Tensor] = {}  # holding them keeps their ids from others

    def note(self, func: Callable[..., Any], args: tuple[Any, ...], result: Any) -> None:
        """A function was called with these arguments, and gave this."""
        lengths = {t.shape[:1] for t in _tensors(args) if id(t) in self._rows}
        chosen = _chooses_rows(getattr(func, "__name__", ""), args)
        for tensor in _tensors(result):
            if tensor.dim() and (chosen or tensor.shape[:1] in lengths):
                self._rows[id(tensor)] = tensor

    def among(self, values: Iterable[Any]) -> bool:
        """Is one of these arguments, or of what they hold, of chosen rows?"""
        return any(id(tensor) in self._rows for tensor in _tensors(list(values)))


def _chooses_rows(name: str, args: tuple[Any, ...]) -> bool:
    if name == "__getitem__":
        first = args[1][0] if isinstance(args[1], tuple) and args[1] else args[1]
        return (
            isinstance(first, Tensor)
            and first.dtype in (torch.bool, torch.uint8)
            and bool(first.dim())
        )
    if name == "repeat_interleave":
        return isinstance(args[-1] if len(args) < 2 else args[1], Tensor)
    return name in _CHOOSING or (name == "where" and len(args) == 1)


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(values) if isinstance(leaf, Tensor)]
