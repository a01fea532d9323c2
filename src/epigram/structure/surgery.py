"""Cutting units out of plain modules, or only making nobody read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from epigram.errors import ConfigError
from epigram.structure.copying import copied
from epigram.structure.fit import fit_modules_, set_attributes_
from epigram.structure.plan import checked_masks
from epigram.structure.trace import named_tensors

if TYPE_CHECKING:
    from torch import Tensor, nn

    from epigram.records import BoolArray, IntArray, SlicePlan, Structure


def remove_units(model: nn.Module, plan: SlicePlan) -> nn.Module:
    """A smaller copy of a plain module, of the same class; the original is untouched.

    Hooks, ``requires_grad``, dtype, device, training mode and ties between weights stay.

    Raises:
        ConfigError: the plan names a tensor or index that the model does not have.
        UnsupportedModelError: the model cannot be copied.
    """
    small = copied(model)
    tensors = named_tensors(small)
    shrink_parameters_(tensors, plan)
    fit_modules_(small, [tensors[name] for name in plan])
    set_attributes_(small, getattr(plan, "attributes", {}))
    return small


def shrink_parameters_(named: Mapping[str, Tensor], plan: SlicePlan) -> None:
    """Keep only the plan's indices of these tensors (and of their gradients), in place.

    The tensor objects keep their identity, so an optimiser still knows them.

    Raises:
        ConfigError: the plan names a tensor or index that is not there; nothing is changed then.
    """
    for name, axes in plan.items():
        if name not in named:
            raise ConfigError(
                f"shrink: the plan names {name!r}, which is not among {sorted(named)}"
            )
        for axis, index in axes.items():
            _check_index(name, named[name], axis, index)
    for name, axes in plan.items():
        tensor = named[name]
        with torch.no_grad():
            gradient = tensor.grad
            tensor.grad = None
            tensor.data = _sliced(tensor.data, axes)
            if gradient is not None:
                tensor.grad = _sliced(gradient, axes)


def mask_units(model: nn.Module, structure: Structure, keep: Mapping[str, BoolArray]) -> nn.Module:
    """A copy of full size in which nobody reads the dropped units: their columns are zero.

    Where a product of two activations consumes them, so are the rows of one factor.

    Raises:
        ConfigError: as :func:`epigram.structure.slice_plan`, or a tensor is missing.
        UnsupportedModelError: the model cannot be copied.
    """
    masked = copied(model)
    mask_units_(masked, structure, keep)
    return masked


def mask_units_(model: nn.Module, structure: Structure, keep: Mapping[str, BoolArray]) -> None:
    """:func:`mask_units` in place.

    Raises:
        ConfigError: as :func:`epigram.structure.slice_plan`, or a tensor is missing.
    """
    masks = checked_masks(structure, keep)
    tensors = named_tensors(model)
    for group in structure.groups:
        if group.name not in masks:
            continue
        for member in group.members:
            if member.role not in ("reads", "consumed"):
                continue
            if member.tensor not in tensors:
                raise ConfigError(f"mask: the model has no tensor {member.tensor!r}")
            dropped = torch.from_numpy(member.index[~masks[group.name]].reshape(-1))
            data = tensors[member.tensor].data
            data.index_fill_(member.axis, dropped.to(data.device), 0)


def _sliced(data: Tensor, axes: Mapping[int, IntArray]) -> Tensor:
    for axis, index in axes.items():
        data = data.index_select(
            axis, torch.from_numpy(np.ascontiguousarray(index)).to(data.device)
        )
    return data


def _check_index(name: str, tensor: Tensor, axis: int, index: IntArray) -> None:
    if not 0 <= axis < tensor.dim():
        raise ConfigError(f"shrink {name!r}: no axis {axis} in shape {tuple(tensor.shape)}")
    if not len(index):
        raise ConfigError(f"shrink {name!r}: axis {axis} would be empty; keep at least one unit")
    if int(index.min()) < 0 or int(index.max()) >= tensor.shape[axis]:
        raise ConfigError(
            f"shrink {name!r}: index {int(index.max())} of axis {axis}, "
            f"which has {tensor.shape[axis]} entries; was the plan made for another network?"
        )
