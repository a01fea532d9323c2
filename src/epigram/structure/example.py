"""The example a network is called with: what it is, and what is said where it does not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from epigram.errors import UnsupportedModelError
from epigram.structure.lines import first_line, place

if TYPE_CHECKING:
    from torch import nn


def check_example(inputs: tuple[Any, ...]) -> None:
    """Refuse an example that has no shape, or on which every removal would seem to work.

    Raises:
        UnsupportedModelError: one of its tensors is nested, or none has an element.
    """
    tensors = [x for x in pytree.tree_leaves(inputs) if isinstance(x, torch.Tensor)]
    if any(x.is_nested for x in tensors):
        raise UnsupportedModelError(
            "structure: got a nested tensor, whose rows have no common shape; expected a padded one"
        )
    if tensors and not any(x.numel() for x in tensors):
        raise UnsupportedModelError(
            f"structure: the example is empty, got {_described(inputs)}; nothing can be tried on it, "
            "expected a batch of at least one example"
        )


def call_failed(model: nn.Module, inputs: tuple[Any, ...], error: Exception) -> str:
    """A sentence about a model that fails on its example: where, what it got and what it expects."""
    weights = {t.dtype for t in model.parameters() if t.is_floating_point()}
    numbers = {
        x.dtype
        for x in pytree.tree_leaves(inputs)
        if isinstance(x, torch.Tensor) and x.is_floating_point()
    }
    remedy = ""
    if weights and numbers - weights:
        of = " and ".join(sorted(map(str, weights)))
        remedy = f"; its weights are {of}, so give the example as such, or convert the model"
    return (
        f"{type(model).__name__}.forward fails on the example{place(error)}: {first_line(error)}; "
        f"got {_described(inputs)}, expected what model(*example_inputs) can be called with{remedy}"
    )


def _described(inputs: tuple[Any, ...]) -> str:
    """Types and shapes of the arguments of a call."""
    found: Any = pytree.tree_map(
        lambda x: f"{x.dtype} {list(x.shape)}" if isinstance(x, torch.Tensor) else type(x).__name__,
        inputs,
    )
    return ", ".join(map(str, found)) or "no argument"
