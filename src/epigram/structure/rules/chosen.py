"""Movements that values decide (``h[mask]``): which rows go on is not known, but units keep their axis.

Whatever is taken along an axis on which no unit lies, the units on the other axes stay apart. What the
choice itself depends on stays: without one of its units other rows would go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from epigram.structure.rules import opaque

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import Node

    from epigram.structure.call import Call, Value

_CHOOSES = "its values choose which rows go on"


def index(call: Call, constants: dict[Node, Any]) -> Value:
    """Indexing by values, where no unit lies on an indexed axis.

    Args:
        call: of any operation that indexes; ``index`` and ``index_select`` are understood.
        constants: index -> its value, if that is known.
    """
    if call.name not in ("index", "index_select"):
        return opaque.rule(call)
    labels, (places, axes) = call.subject, _places(call, constants)
    if any(axis in axes for axis in call.space.varying(labels)):
        return opaque.rule(call)
    for node, value in constants.items():
        stream = call.engine.stream(node)
        if value is None and stream is not None:
            call.space.pin(stream, call.cause(_CHOOSES))
    taken = torch.ops.aten.index.Tensor(labels, places)
    return call.space.compact(taken.expand(call.shape))


def repeats(call: Call) -> Value:
    """``repeat_interleave`` as often as a tensor says, where no unit lies on that axis."""
    times, axis = call.argument("repeats"), call.get("dim")
    if times is None or axis is None or call.get("self") is None:
        return opaque.rule(call)
    labels = call.subject
    axis %= labels.dim()
    if axis in call.space.varying(labels):
        return opaque.rule(call)
    call.space.pin(times, call.cause(_CHOOSES))
    return call.space.compact(labels.narrow(axis, 0, 1).expand(call.shape))


def _places(call: Call, constants: dict[Node, Any]) -> tuple[list[Tensor | None], list[int]]:
    """What indexes each axis, in the rank it has, and the axes where values choose: place 0 stands for any."""
    if call.name == "index_select":
        axis = call.get("dim") % max(1, call.subject.dim())
        return [*[None] * axis, torch.zeros(1, dtype=torch.int64)], [axis]
    places: list[Tensor | None] = []
    chosen: list[int] = []
    for node in call.get("indices"):
        known = None if node is None else constants[node]
        if node is None:
            places.append(None)
            continue
        if known is not None:
            places += known.nonzero(as_tuple=True) if _is_mask(known) else (known,)
            continue
        value = node.meta["val"]
        axes, rank = (value.dim(), 1) if _is_mask(value) else (1, value.dim())
        chosen += range(len(places), len(places) + axes)
        places += [torch.zeros([1] * rank, dtype=torch.int64)] * axes
    return places, chosen


def _is_mask(value: Tensor) -> bool:
    return value.dtype in (torch.bool, torch.uint8)
