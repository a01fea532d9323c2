"""Which scales act on which inputs of which layer of a twin."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from epigram.convert.gathered import GatheredReader, variational_readers
from epigram.convert.kept import position_key
from epigram.layers import ScaleUse, VariationalLayer
from epigram.priors import GroupScale
from epigram.records import Group, IntArray, Structure


def attach_scales_(
    network: nn.Module, structure: Structure, scales: Mapping[str, GroupScale]
) -> None:
    """Tell every variational layer which scales act on which of its inputs.

    Args:
        network: the twin's network.
        structure: of the network as it is.
        scales: by group or position axis.
    """
    readers = {path: (layer, gathered) for path, layer, gathered in variational_readers(network)}
    uses: dict[str, list[ScaleUse]] = {path: [] for path in readers}
    for group in structure.groups:
        if group.name not in scales:
            continue
        for path, places in _read_by(group).items():
            if path in readers:
                index = _unit_of_inputs(*readers[path], places)
                uses[path].append(ScaleUse(scales[group.name], index))
    for axis in structure.positions:
        path = axis.tensor.rpartition(".")[0]
        if position_key(axis) in scales and path in readers:
            uses[path].append(ScaleUse(scales[position_key(axis)]))
    for path, (layer, _) in readers.items():
        layer.scale_uses = uses[path]


def _read_by(group: Group) -> dict[str, list[IntArray]]:
    """Module path -> for each member that reads the group there, the inputs of each unit."""
    found: dict[str, list[IntArray]] = {}
    for member in group.members:
        path, _, leaf = member.tensor.rpartition(".")
        if member.role == "reads" and leaf == "weight":
            found.setdefault(path, []).append(member.index)
    return found


def _unit_of_inputs(
    layer: VariationalLayer,
    gathered: GatheredReader | None,
    places: list[IntArray],
) -> Tensor | None:
    """The unit each input of a layer belongs to, -1 for none; None where input i is unit i."""
    axis = layer.input_axis
    inputs = layer.weight_mean.shape[axis] if gathered is None else gathered.inputs
    unit_of = np.full(inputs, -1)
    for index in places:
        unit_of[index] = np.arange(len(index))[:, None]
    if gathered is not None:
        unit_of = unit_of[gathered.index.cpu().numpy()]
    if axis == 1:  # the weights of a grouped convolution name the inputs of one group
        unit_of = np.tile(unit_of, int(getattr(layer, "groups", 1)))
    units = len(places[0])
    in_order = len(unit_of) == units and bool((unit_of == np.arange(units)).all())
    return None if in_order else torch.from_numpy(unit_of)
