"""Which scales act on which inputs of which layer of a twin."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from epigram.convert.kept import position_key
from epigram.convert.readers import Reader, variational_readers
from epigram.layers import ScaleUse
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
    readers = {reader.weight: reader for reader in variational_readers(network)}
    uses: dict[str, list[ScaleUse]] = {tensor: [] for tensor in readers}
    for group in structure.groups:
        if group.name not in scales:
            continue
        for tensor, places in read_by(group).items():
            index = _unit_of_inputs(readers[tensor], places)
            uses[tensor].append(ScaleUse(scales[group.name], index))
    for axis in structure.positions:
        if position_key(axis) in scales and axis.tensor in readers:
            uses[axis.tensor].append(ScaleUse(scales[position_key(axis)]))
    for tensor, reader in readers.items():
        reader.layer.scale_uses = uses[tensor]
        if reader.layer.noise == "weights":
            for use in uses[tensor]:
                use.scale.per_example = False


def read_by(group: Group) -> dict[str, list[IntArray]]:
    """Tensor -> for each member that reads the group there, the inputs of each unit."""
    found: dict[str, list[IntArray]] = {}
    for member in group.members:
        if member.role == "reads":
            found.setdefault(member.tensor, []).append(member.index)
    return found


def _unit_of_inputs(reader: Reader, places: list[IntArray]) -> Tensor | None:
    """The unit each input of a layer belongs to, -1 for none; None where input i is unit i."""
    layer, axis = reader.layer, reader.layer.input_axis
    unit_of = np.full(reader.inputs, -1)
    for index in places:
        unit_of[index] = np.arange(len(index))[:, None]
    if reader.gathered is not None:
        unit_of = unit_of[reader.gathered.index.cpu().numpy()]
    if axis == 1:  # the weights of a grouped convolution name the inputs of one group
        unit_of = np.tile(unit_of, int(getattr(layer, "groups", 1)))
    units = len(places[0])
    in_order = len(unit_of) == units and bool((unit_of == np.arange(units)).all())
    return None if in_order else torch.from_numpy(unit_of)
