"""Units that symbols have emptied: nobody reads them, or they say nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from epigram.records import BoolArray, CodedTensor, FileContents, Group, GroupEdit, RawTensor
from epigram.structure import SizedStructure, mask_units, merged_numbers, slice_plan
from epigram.structure.verify import compare, outputs_of

AnyTensor = CodedTensor | RawTensor
Symbols = NDArray[np.int32]

_ROUNDS = 8


def idle_units(
    network: nn.Module, structure: SizedStructure, symbols: Mapping[str, Symbols], example: Tensor
) -> dict[str, BoolArray]:
    """Which units of each group are worth keeping; at least one is.

    A unit goes if all that read it are zero; or if all that produce it are, up to its bias, and the
    network computes the same without it (behind a rectifier a bias that is not positive is nothing). One
    that goes may leave others idle, so the search is repeated until nothing more goes.

    Args:
        network: plain, with the decoded values.
        structure: of this network.
        symbols: of its parameters; absent ones count as not zero.
        example: what it is called with.
    """
    left = {name: array.copy() for name, array in symbols.items()}
    groups = [g for g in structure.groups if _is_simple(g) and _known(g, left)]
    keep = {group.name: np.ones(group.units, bool) for group in groups}
    for _ in range(_ROUNDS):
        before = sum(int(mask.sum()) for mask in keep.values())
        silent: dict[str, BoolArray] = {}
        for group in groups:
            mask = keep[group.name]
            mask &= _used(group, left, ("reads",)) | _first_only(mask)
            said = _used(group, left, ("produces",), biases=False)
            if (mask & ~said).any() and (mask & said).any():
                silent[group.name] = mask & said
        for name, mask in silent.items():
            if _same_without(network, structure, {**keep, name: mask}, example):
                keep[name] = mask
        for group in groups:
            _empty_(group, keep[group.name], left)
        if sum(int(mask.sum()) for mask in keep.values()) == before:
            break
    return keep


def without_units(
    contents: FileContents, structure: SizedStructure, keep: Mapping[str, BoolArray]
) -> FileContents:
    """The contents of the network that is left, in the order they had; edits follow."""
    plan = slice_plan(structure, keep)
    tensors = tuple(sliced(tensor, plan.get(tensor.name, {})) for tensor in contents.tensors)
    edits = tuple(_edited(edit, keep.get(edit.name)) for edit in contents.edits)
    numbers = merged_numbers(contents.numbers, plan.attributes)
    return replace(contents, tensors=tensors, edits=edits, numbers=numbers)


def with_live(contents: FileContents) -> FileContents:
    """The same contents that say which inputs (axis 1) have no symbol but zero."""
    return replace(contents, tensors=tuple(_with_live(tensor) for tensor in contents.tensors))


def without_live(contents: FileContents) -> FileContents:
    """The same contents that say nothing of dead inputs; their zeros are coded."""
    tensors = (replace(t, live=None) if isinstance(t, CodedTensor) else t for t in contents.tensors)
    return replace(contents, tensors=tuple(tensors))


def sliced(tensor: AnyTensor, axes: Mapping[int, NDArray[np.int64]]) -> AnyTensor:
    """The tensor with these indices of each axis, in their order; a mask of live positions follows."""
    if isinstance(tensor, RawTensor):
        values = tensor.values_
        for axis, index in axes.items():
            values = np.take(values, index, axis)
        return replace(tensor, values_=values)
    symbols, live = tensor.symbols, tensor.live
    for axis, index in axes.items():
        symbols = np.take(symbols, index, axis)
        if live is not None and axis == tensor.live_axis:
            live = live[index]
    return replace(tensor, symbols=symbols, live=live)


def _is_simple(group: Group) -> bool:
    roles = {member.role for member in group.members}
    return "reads" in roles and "produces" in roles and "consumed" not in roles


def _known(group: Group, symbols: Mapping[str, Symbols]) -> bool:
    return all(m.tensor in symbols for m in group.members if m.role in ("reads", "produces"))


def _used(
    group: Group, symbols: Mapping[str, Symbols], roles: tuple[str, ...], *, biases: bool = True
) -> BoolArray:
    """Per unit: is any of its symbols in these roles other than zero?"""
    used = np.zeros(group.units, bool)
    for member in group.members:
        array = symbols.get(member.tensor)
        if member.role not in roles or array is None or (array.ndim < 2 and not biases):
            continue
        others = tuple(axis for axis in range(array.ndim) if axis != member.axis)
        used |= (array != 0).any(axis=others)[member.index].any(axis=1)
    return used


def _first_only(mask: BoolArray) -> BoolArray:
    """Only the first unit that is left; one has to be."""
    first = np.zeros(len(mask), bool)
    first[np.flatnonzero(mask)[:1]] = True
    return first


def _empty_(group: Group, keep: BoolArray, symbols: dict[str, Symbols]) -> None:
    for member in group.members:
        if member.tensor in symbols:
            gone = member.index[~keep].reshape(-1)
            np.moveaxis(symbols[member.tensor], member.axis, 0)[gone] = 0


def _same_without(
    network: nn.Module, structure: SizedStructure, keep: Mapping[str, BoolArray], example: Tensor
) -> bool:
    masked = mask_units(network, structure, keep)
    with torch.no_grad():
        difference, allowed, reason = compare(
            outputs_of(masked, (example,)), outputs_of(network, (example,))
        )
    return not reason and difference <= allowed


def _edited(edit: GroupEdit, keep: BoolArray | None) -> GroupEdit:
    if keep is None:
        return edit
    kept = edit.kept.copy()
    kept[np.flatnonzero(kept)[~keep]] = False
    return GroupEdit(edit.name, kept)


def _with_live(tensor: AnyTensor) -> AnyTensor:
    if not isinstance(tensor, CodedTensor) or tensor.symbols.ndim < 2:
        return tensor
    others = tuple(axis for axis in range(tensor.symbols.ndim) if axis != 1)
    live = (tensor.symbols != 0).any(axis=others)
    return replace(tensor, live=None if live.all() else live, live_axis=1)
