"""The tensors of a module's state. What ``get_extra_state`` returns is none, and no file of ours holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.modules.module import _EXTRA_STATE_KEY_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn


def state_tensors(model: nn.Module, *, keep_vars: bool = False) -> dict[str, Tensor]:
    """``state_dict(keep_vars=...)`` without extra state: parameters and persistent buffers."""
    extra = extra_state(model)
    return {
        name: value
        for name, value in model.state_dict(keep_vars=keep_vars).items()
        if name not in extra and isinstance(value, torch.Tensor)
    }


def extra_state(model: nn.Module) -> dict[str, Any]:
    """What modules return from ``get_extra_state``, by the names it has in ``state_dict()``."""
    suffix = _EXTRA_STATE_KEY_SUFFIX
    return {
        name: value
        for name, value in model.state_dict().items()
        if name.rpartition(".")[2] == suffix
    }


def load_tensors_(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """``load_state_dict`` of all its tensors, in place; extra state stays the model's own.

    Raises:
        RuntimeError: as ``load_state_dict``: a tensor is missing, unknown or of another shape.
    """
    model.load_state_dict({**extra_state(model), **tensors})
