"""Copies of networks and of what they are called with: the user's own stay exactly as they are."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn
from torch.utils import _pytree as pytree

from epigram.errors import UnsupportedModelError
from epigram.structure.functions import EveryFunction

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

Module = TypeVar("Module", bound=nn.Module)

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def copied(model: Module) -> Module:
    """A deep copy without gradients.

    Results of a computation that a module keeps (its last activations) are copied as numbers, without
    the graph that leads to them.

    Raises:
        UnsupportedModelError: the model holds something that cannot be copied; the message names it.
    """
    try:
        with WithoutGraph():
            twin = copy.deepcopy(model)
    except Exception as error:
        raise UnsupportedModelError(
            f"structure: {type(model).__name__} cannot be copied (copy.deepcopy: {error}); "
            f"surgery works on a copy of the user's own class{_remedy(model)}"
        ) from error
    for parameter in twin.parameters():
        parameter.grad = None
    return twin


def fresh(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same inputs in tensors of their own, for a forward pass that may change them in place."""
    cloned: tuple[Any, ...] = pytree.tree_map(
        lambda x: x.detach().clone() if isinstance(x, torch.Tensor) else x, inputs
    )
    return cloned


class WithoutGraph(EveryFunction):
    """``copy.deepcopy`` refuses results of a computation; here it takes their numbers, without the graph.

    Old-style weight and spectral normalisation keep such a result, too, and compute it anew in every call.
    """

    def call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func is torch.Tensor.__deepcopy__ and not args[0].is_leaf:
            tensor, memo = args
            memo[id(tensor)] = tensor.detach().clone()
            return memo[id(tensor)]
        return func(*args, **kwargs)


def tensors_kept(model: nn.Module) -> list[Tensor]:
    """The tensors that modules keep beside their parameters: buffers, attributes, those in containers."""
    return [
        leaf
        for module in model.modules()
        for value in (_attributes(module) | dict(module.named_buffers(recurse=False))).values()
        for leaf in pytree.tree_leaves(value)
        if isinstance(leaf, torch.Tensor)
    ]


def _attributes(module: nn.Module) -> dict[str, Any]:
    """What a module keeps that not every module does."""
    return {name: value for name, value in vars(module).items() if name not in _OF_EVERY_MODULE}


def _remedy(model: nn.Module) -> str:
    """What of the model cannot be copied, and what to do instead; "" where that is not known."""
    for path, module in model.named_modules():
        tensors = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
        for name, value in (_attributes(module) | dict(tensors)).items():
            try:
                with WithoutGraph():
                    copy.deepcopy(value)
            except Exception:  # noqa: BLE001 - it is the user's, copying it may raise anything
                where = f"{path}.{name}" if path else name
                return (
                    f"; {where} (a {type(value).__name__}) is what cannot be: keep it outside of the "
                    "module, or give its class a __deepcopy__"
                )
    return ""
