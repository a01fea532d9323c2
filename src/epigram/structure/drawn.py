"""Inputs for trials: numbers drawn at random, tokens that differ.

Between tokens that are all the same an attention has nothing to choose, and gives their value whatever its
weights are: such an input hides what a removal changes.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from epigram.structure.functions import EveryFunction
from epigram.structure.trace import evaluating

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn


def ways_to_draw(
    network: nn.Module, inputs: tuple[Any, ...], generator: torch.Generator
) -> list[tuple[Any, ...]]:
    """Inputs of the same shapes to try in turn, most random first; the given ones come last.

    Integers are drawn where they are alike and an embedding looks them up, between 0 and its size;
    others could be masks or lengths.
    """
    drawn: tuple[Any, ...] = pytree.tree_map(lambda x: _random_like(x, generator), inputs)
    ways = [drawn, inputs]
    sizes = _looked_up(network, inputs) if any(map(_are_alike, _integers(inputs))) else {}
    if sizes:

        def other_tokens(value: Any) -> Any:
            if not isinstance(value, torch.Tensor) or value.data_ptr() not in sizes:
                return value
            if not _are_alike(value):
                return value
            tokens = torch.randint(sizes[value.data_ptr()], value.shape, generator=generator)
            return tokens.to(value)

        ways.insert(0, pytree.tree_map(other_tokens, drawn))
    return ways


def says_little(inputs: tuple[Any, ...]) -> bool:
    """Is one of the inputs the same at all positions?"""
    tensors = [x for x in pytree.tree_leaves(inputs) if isinstance(x, torch.Tensor)]
    numbers = [x for x in tensors if x.is_floating_point() and x.numel() > 1]
    alike = any(bool((x == x.reshape(-1)[0]).all()) for x in numbers)
    return alike or any(map(_are_alike, _integers(inputs)))


def _integers(inputs: tuple[Any, ...]) -> list[Tensor]:
    return [
        x
        for x in pytree.tree_leaves(inputs)
        if isinstance(x, torch.Tensor) and x.dtype in (torch.int32, torch.int64)
    ]


def _are_alike(value: Tensor) -> bool:
    """The same token at all positions of an example."""
    return value.dim() > 0 and value.numel() > 0 and bool((value == value[..., :1]).all())


def _looked_up(network: nn.Module, inputs: tuple[Any, ...]) -> dict[int, int]:
    """Address of an integer input -> how many rows the (smallest) table has that it is looked up in."""
    tables = _Tables()
    try:
        with evaluating(network), tables, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network(*pytree.tree_map(_own_numbers, inputs))
    except Exception:  # noqa: BLE001 - forward is the user's, it may raise anything
        return {}
    mine = {x.data_ptr() for x in _integers(inputs)}
    return {address: rows for address, rows in tables.rows.items() if address in mine}


class _Tables(EveryFunction):
    """Watches embeddings; ``rows`` are the sizes of their tables by the address of what is looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[int, int] = {}

    def call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if getattr(func, "__name__", "") == "embedding":
            given = [x for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor)]
            tables = [x for x in given if x.is_floating_point()]
            for index in given:
                if tables and not index.is_floating_point():
                    rows = self.rows.get(index.data_ptr(), tables[0].shape[0])
                    self.rows[index.data_ptr()] = min(rows, tables[0].shape[0])
        return func(*args, **kwargs)


def _own_numbers(value: Any) -> Any:
    """A forward pass may change its input in place; integers keep their address."""
    floating = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value.clone() if floating else value


def _random_like(value: Any, generator: torch.Generator) -> Any:
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return value
    return torch.randn(value.shape, generator=generator).to(value)
