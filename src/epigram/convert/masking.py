"""The reference that removal is checked against: the network as it is, with nothing but zeros added."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from epigram.convert.gathered import GatheredReader
from epigram.convert.kept import position_key
from epigram.convert.twin import Twin
from epigram.records import BoolArray
from epigram.structure import mask_units


@torch.no_grad()
def masked_plain(twin: Twin, keep: Mapping[str, BoolArray]) -> nn.Module:
    """The twin's plain network with the columns that read dropped units and positions at zero.

    Shares no code with ``Twin.shrink_``; the small network must compute what this one does.

    Args:
        twin: before it is shrunken; it is not changed.
        keep: per scale, which of the units it has now stay.
    """
    groups = {group.name for group in twin.structure.groups}
    dropping = {n: mask for n, mask in keep.items() if n in groups and not mask.all()}
    masked = mask_units(twin.plain(), twin.structure, dropping)
    for axis in twin.structure.positions:
        path = axis.tensor.rpartition(".")[0]
        reader, mask = twin.network.get_submodule(path), keep.get(position_key(axis))
        if mask is not None and isinstance(reader, GatheredReader):
            dead = reader.index.cpu()[torch.from_numpy(~mask)]
            masked.get_parameter(axis.tensor).index_fill_(axis.axis, dead, 0.0)
    return masked.eval()
