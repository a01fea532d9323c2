"""Copies of networks: the user's own stay exactly as they are."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils import _pytree as pytree

from epigram.errors import UnsupportedModelError

Module = TypeVar("Module", bound=nn.Module)

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def copied(model: Module) -> Module:
    """A deep copy without gradients.

    Results of a computation that a module keeps (its last activations) are copied as numbers, without
    the graph that leads to them, which ``copy.deepcopy`` refuses.

    Raises:
        UnsupportedModelError: the model holds something that cannot be copied.
    """
    try:
        twin = copy.deepcopy(model, _without_graph(model))
    except Exception as error:
        raise UnsupportedModelError(
            f"structure: {type(model).__name__} cannot be copied (copy.deepcopy: {error}); "
            f"surgery works on a copy of the user's own class{_remedy(model)}"
        ) from error
    for parameter in twin.parameters():
        parameter.grad = None
    return twin


def _without_graph(model: nn.Module) -> dict[int, Any]:
    """A memo for ``copy.deepcopy``: the numbers of all results that modules keep, in containers, too."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        kept = {
            name: value
            for name, value in (vars(module) | module._buffers).items()  # noqa: SLF001 - its own only
            if name not in _OF_EVERY_MODULE and not _is_computed_weight(module, name)
        }
        for leaf in pytree.tree_leaves(kept):
            if isinstance(leaf, torch.Tensor) and not leaf.is_leaf:
                memo[id(leaf)] = leaf.detach().clone()
    return memo


def _is_computed_weight(module: nn.Module, name: str) -> bool:
    """Does old-style weight or spectral normalisation keep it?"""
    return f"{name}_g" in module._parameters or f"{name}_orig" in module._parameters  # noqa: SLF001


def _remedy(model: nn.Module) -> str:
    """For modules whose weight is the result of a computation: what to write instead; else ""."""
    for path, module in model.named_modules():
        for name in vars(module):
            if _is_computed_weight(module, name):
                where = f"{path}.{name}" if path else name
                return (
                    f"; {where} is the result of a computation, which old-style weight and spectral "
                    "normalisation leave there: call torch.nn.utils.remove_weight_norm(module) (or "
                    "remove_spectral_norm), or use torch.nn.utils.parametrizations.weight_norm"
                )
    return ""
