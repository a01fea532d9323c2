"""The default: what is not proven to be movement, per channel or element-wise pins its inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from epigram.structure.call import Call, Value, opaque_like, sizes

if TYPE_CHECKING:
    from torch import Tensor

    from epigram.structure.labels import Cause, LabelSpace


def rule(call: Call) -> Value:
    """Pin everything the operation touches."""
    cause = call.cause("this operation is not known to keep units apart")
    return pin_everything(call.space, call.streams(), call.node.meta.get("val"), cause)


def pin_everything(space: LabelSpace, streams: list[Tensor], result: Any, cause: Cause) -> Value:
    """Pin all ``streams``; the result stays as well.

    A single result of the first one's shape keeps its (pinned) labels, so that an operation behind
    the last layer is not taken for the reason why outputs stay.
    """
    for labels in streams:
        space.pin(labels, cause)
    if isinstance(result, tuple | list):
        return [opaque_like(value) for value in result]
    if isinstance(result, torch.Tensor) and streams and sizes(result) == streams[0].shape:
        return streams[0]
    return opaque_like(result)
