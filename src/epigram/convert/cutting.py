"""Units and positions leave the tensors of a twin; the parameters keep their identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from epigram.convert.gathered import GatheredReader
from epigram.convert.kept import Kept, position_key
from epigram.convert.readers import holder
from epigram.layers import VariationalLayer
from epigram.priors import GroupScale
from epigram.priors.base import put_data_
from epigram.records import BoolArray, IntArray, Structure
from epigram.structure import slice_plan
from epigram.structure.fit import fit_modules_, set_attributes_


@dataclass(frozen=True, eq=False)
class Cut:
    """A parameter that became smaller: which entries of which axis stayed (for optimiser state)."""

    parameter: nn.Parameter
    axis: int
    index: Tensor


def cut_units_(
    network: nn.Module, structure: Structure, keep: Mapping[str, BoolArray]
) -> list[Cut]:
    """Take units out of every tensor that produces, carries or reads them.

    Columns of gathered readers are left to ``cut_positions_``: they go with their positions.

    Args:
        network: the twin's network.
        structure: of the network as it is.
        keep: one mask per group that loses something.
    """
    carried = {m.tensor for g in structure.groups for m in g.members if m.role == "carries"}
    cuts, plain = [], []
    plan = slice_plan(structure, keep)
    for tensor, axes in plan.items():
        found, leaf = holder(network, tensor)
        gathered = found if isinstance(found, GatheredReader) else None
        module: nn.Module = found if gathered is None else gathered.layer
        for axis, kept in axes.items():
            if gathered and leaf == "weight" and axis == gathered.layer.input_axis:
                gathered.inputs = len(kept)
                continue
            if isinstance(module, VariationalLayer):
                if leaf == "weight" and tensor in carried:
                    _shrink_depthwise_(module, axis, len(kept))
                for parameter in module.parameters_of(leaf):
                    cuts += _cut_(parameter, axis, kept)
            else:
                cuts += _cut_(getattr(module, leaf), axis, kept)
                plain.append(getattr(module, leaf))
    fit_modules_(network, plain)
    set_attributes_(network, plan.attributes)
    return cuts


def cut_positions_(
    network: nn.Module, structure: Structure, kept: Kept, keep: Mapping[str, BoolArray]
) -> list[Cut]:
    """Take positions out of gathered readers.

    Args:
        network: the twin's network, its units cut already.
        structure: says which tensor has which position axis.
        kept: what is left, shrunken already.
        keep: one mask per position axis, over what was left before.
    """
    cuts = []
    for axis in structure.positions:
        module = network.get_submodule(axis.tensor.rpartition(".")[0])
        key = position_key(axis)
        if key not in keep or not isinstance(module, GatheredReader):
            continue
        stay = np.flatnonzero(keep[key])
        for parameter in module.layer.parameters_of("weight"):
            cuts += _cut_(parameter, module.layer.input_axis, stay)
        module.index = torch.from_numpy(kept.places(key)).to(module.index.device)
    return cuts


def cut_scale_(scale: GroupScale, keep: BoolArray) -> list[Cut]:
    """Take units out of their scale."""
    if keep.all():
        return []
    index = torch.from_numpy(np.flatnonzero(keep))
    scale.keep_(index)
    return [
        Cut(scale.get_parameter(name), axis, index)
        for name, axis in scale.unit_parameters().items()
    ]


def _cut_(tensor: Tensor | None, axis: int, kept: IntArray) -> list[Cut]:
    # of size 1 is an axis that the tensor does not depend on, or one that loses nothing
    if tensor is None or tensor.shape[axis] in (1, len(kept)):
        return []
    index = torch.from_numpy(np.ascontiguousarray(kept))
    put_data_(tensor, tensor.data.index_select(axis, index.to(tensor.device)))
    return [Cut(tensor, axis, index)] if isinstance(tensor, nn.Parameter) else []


def _shrink_depthwise_(layer: VariationalLayer, axis: int, size: int) -> None:
    """A depthwise convolution has as many groups as channels; a grouped one keeps its number."""
    groups = getattr(layer, "groups", 1)
    if isinstance(groups, int) and groups > 1 and axis == 0:
        multiplier = layer.weight_mean.shape[0] // groups
        setattr(layer, "groups", size // multiplier)  # noqa: B010  (only convolutions have groups)
