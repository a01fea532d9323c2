"""The order of a small network's units, which is free: the one whose file is smallest.

Units of a group can change places without changing what the network computes. A file has to name them in some order, and
an adaptive code learns sooner in one than in another; n units have n! orders, so there is up to log2(n!) bits in the choice.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from epigram import codec
from epigram.pipeline.files import Rung, decoded, value_of
from epigram.pipeline.idle import sliced
from epigram.pipeline.job import Job
from epigram.records import FileContents, Group, IntArray
from epigram.structure import analyse
from epigram.structure.verify import compare, outputs_of

LARGEST_SYMBOLS = 1 << 16
"""Beyond, what adaptive contexts learn at the beginning hardly counts, and a try takes long."""
_SEED = 0

Order = dict[str, IntArray]
"""Group -> which of its units comes first, second, ..."""


def ordered(job: Job, rung: Rung, *, met: bool) -> Rung:
    """The same network with its units in a better order, if its file is smaller and it is worth the same.

    Sums in another order round otherwise, so what was judged is judged again; where that tips an image and
    with it the floor, the rung stays as it was.
    """
    contents, tries = rung.contents, job.settings.quantize.order_tries
    symbols = sum(int(np.prod(tensor.shape)) for tensor in contents.tensors)
    if not tries or job.settings.profile != "bare" or symbols > LARGEST_SYMBOLS:
        return rung
    network = decoded(job, contents)
    groups = movable(network, contents, job)
    best = best_order(contents, groups, tries=tries)
    if best is contents:
        return rung
    model = decoded(job, best)
    found = replace(
        rung,
        contents=best,
        predicted_bytes=codec.size_estimate(best).total,
        control=job.measure(job.splits.control)(model),
        validation=job.measure(job.splits.validation)(model),
    )
    assert job.floor is not None
    as_good = job.budget is not None or job.floor.met(value_of(found)) or not met
    return found if as_good and found.predicted_bytes < rung.predicted_bytes else rung


def movable(network: nn.Module, contents: FileContents, job: Job) -> tuple[Group, ...]:
    """The groups whose units can change places: tried on the network itself, each reversed."""
    structure = analyse(network, job.example, on_failure="leave")
    names = {tensor.name for tensor in contents.tensors}
    found = []
    for group in structure.groups:
        if group.units < 2 or not {member.tensor for member in group.members} <= names:
            continue
        turned = {group.name: np.arange(group.units)[::-1].copy()}
        other = decoded(job, in_order(contents, (group,), turned))
        if _the_same(network, other, job):
            found.append(group)
    return tuple(found)


def best_order(contents: FileContents, groups: tuple[Group, ...], *, tries: int) -> FileContents:
    """A search from order to order: two units change places, or one moves; what is no longer is kept.

    Args:
        contents: of a file.
        groups: whose units may change places.
        tries: how many orders are measured.

    Returns:
        Contents of no more bits; the very same object where nothing was found.
    """
    if not groups:
        return contents
    random = np.random.RandomState(_SEED)
    order = {group.name: np.arange(group.units) for group in groups}
    best, least = contents, codec.stream_bits(contents)
    for _ in range(tries):
        name = groups[random.randint(len(groups))].name
        tried = {**order, name: _moved(order[name], random)}
        found = in_order(contents, groups, tried)
        bits = codec.stream_bits(found)
        if bits < least:
            best, least, order = found, bits, tried
    return best


def in_order(contents: FileContents, groups: tuple[Group, ...], order: Order) -> FileContents:
    """The contents with the units of each group in that order."""
    axes: dict[str, dict[int, IntArray]] = {}
    shapes = {tensor.name: tensor.shape for tensor in contents.tensors}
    for group in groups:
        for member in group.members:
            of_tensor = axes.setdefault(member.tensor, {})
            places = of_tensor.setdefault(
                member.axis, np.arange(shapes[member.tensor][member.axis])
            )
            places[member.index] = member.index[order[group.name]]
    tensors = tuple(sliced(tensor, axes.get(tensor.name, {})) for tensor in contents.tensors)
    return replace(contents, tensors=tensors)


def _moved(order: IntArray, random: np.random.RandomState) -> IntArray:
    """Two units swapped, or one put elsewhere; each half of the time."""
    first, second = random.randint(len(order), size=2)
    if random.rand() < 0.5:
        found = order.copy()
        found[[first, second]] = order[[second, first]]
        return found
    return np.insert(np.delete(order, first), second, order[first])


def _the_same(network: nn.Module, other: nn.Module, job: Job) -> bool:
    with torch.no_grad():
        difference, allowed, reason = compare(
            outputs_of(other, (job.example,)), outputs_of(network, (job.example,))
        )
    return not reason and difference <= allowed
