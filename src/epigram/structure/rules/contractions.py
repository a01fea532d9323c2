"""Layers that read units and produce new ones: linear, convolution, transposed, embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from epigram.structure.labels import OPAQUE
from epigram.structure.rules import opaque

if TYPE_CHECKING:
    from torch import Tensor

    from epigram.structure.call import Call, Rule, Value


def linear(call: Call) -> Value:
    """``y = x Wᵀ + b`` over the last axis: columns read, rows produce."""
    if call.weight("weight") is None:
        return _derived_weight(call)
    return dense(call, call.subject, "weight", "bias", input_axis=1)


def dense(
    call: Call, labels: Tensor, weight_is: str, bias_is: str | None, *, input_axis: int
) -> Value:
    """A matrix of the model times the last axis; it produces the units of its other axis.

    Where the units lie on another axis than the one contracted (mixing positions), they pass.

    Args:
        call: the operation.
        labels: of what is multiplied; shape ``[..., in]``.
        weight_is: the name of the argument that is the matrix.
        bias_is: the name of the argument that is added, if there is one.
        input_axis: 1 for ``x Wᵀ``, 0 for ``x W``.
    """
    weight = call.weight(weight_is)
    assert weight is not None
    last = labels.dim() - 1
    varying = call.space.varying(labels)
    if varying and last not in varying:
        return _pass(call, labels, weight_is, bias_is, [last])
    cause = call.cause("it reads its input at several positions")
    read = call.space.collapse(labels, last, cause)
    call.record(weight_is, input_axis, read, "reads", single=True)
    produced = call.space.fresh(weight.shape[1 - input_axis])
    call.record(weight_is, 1 - input_axis, produced, "produces")
    if bias_is is not None:
        call.record(bias_is, 0, produced, "produces")
    return produced.expand(call.shape)


def convolution(call: Call) -> Value:
    """Convolution: weight ``[out, in / groups, *kernel]``."""
    return _convolve(call, output_axis=0, input_axis=1)


def transposed_convolution(call: Call) -> Value:
    """Transposed convolution: weight ``[in, out / groups, *kernel]``."""
    return _convolve(call, output_axis=1, input_axis=0)


def embedding(call: Call) -> Value:
    """A table look-up produces the columns of the table; its rows are words, not units."""
    weight = call.weight("weight")
    if weight is None:
        return _derived_weight(call)
    produced = call.space.fresh(weight.shape[1])
    call.record("weight", 1, produced, "produces")
    return produced.expand(call.shape)


def _pass(
    call: Call, labels: Tensor, weight_is: str, bias_is: str | None, axes: list[int]
) -> Value:
    """The layer works on every unit by itself, alike for all: its weights stay, the units pass."""
    weight = call.weight(weight_is)
    assert weight is not None
    for axis in (0, 1):
        call.record(weight_is, axis, torch.full((weight.shape[axis],), OPAQUE), "carries")
    if bias_is is not None and isinstance(call.get(bias_is), torch.fx.Node):
        call.record(bias_is, 0, torch.full((call.shape[axes[0]],), OPAQUE), "carries")
    for axis in axes:
        labels = labels.narrow(axis, 0, 1)
    return labels.expand(call.shape)


def _derived_weight(call: Call) -> Value:
    """No tensor of the model has the layer's rows: its units stay, and it is named for that."""
    cause = call.cause("its weight is computed in forward, not a tensor of the model")
    call.engine.note_whole(cause)
    return opaque.pin_everything(call.space, call.streams(), call.node.meta.get("val"), cause)


def _convolve(call: Call, *, output_axis: int, input_axis: int) -> Value:
    weight, labels, groups = call.weight("weight"), call.subject, int(call.get("groups", 1))
    if weight is None:
        return _derived_weight(call)
    channel = labels.dim() - (len(weight.shape) - 2) - 1
    varying, outputs = call.space.varying(labels), call.shape[channel]
    if varying and max(varying) < channel:
        return _pass(call, labels, "weight", "bias", list(range(channel, labels.dim())))
    along = channels(call, channel)
    if groups == 1:
        produced = call.space.fresh(outputs)
        one_position = labels.shape[channel + 1 :].numel() == 1
        call.record("weight", input_axis, along, "reads", single=one_position)
        call.record("weight", output_axis, produced, "produces")
        call.record("bias", 0, produced, "produces")
    elif groups == len(along):
        produced = along.repeat_interleave(outputs // groups)
        carrier = produced if output_axis == 0 else along
        call.record("weight", 0, carrier, "carries")
        call.record("bias", 0, produced, "carries")
    else:
        produced = _grouped(call, along, outputs, groups, output_axis, input_axis)
    return produced.reshape((-1,) + (1,) * (len(weight.shape) - 2)).expand(call.shape)


def _grouped(
    call: Call, along: Tensor, outputs: int, groups: int, output_axis: int, input_axis: int
) -> Tensor:
    """Every group keeps the same channels: one unit is the same channel of all groups."""
    cause = call.cause("all groups of a grouped convolution keep as many channels")
    produced = call.space.fresh(outputs)
    for labels in (along, produced):
        call.space.tie(labels.reshape(groups, -1), [0], cause)
    read, made = along, produced
    if input_axis == 1:
        read = along.reshape(groups, -1)[0].clone()
    else:
        made = produced.reshape(groups, -1)[0].clone()
    call.record("weight", input_axis, read, "reads")
    call.record("weight", output_axis, made, "produces")
    call.record("bias", 0, produced, "produces")
    return produced


def channels(call: Call, channel: int) -> Tensor:
    """The labels along the channel axis; positions are tied, or pinned if they alone are units."""
    labels = call.subject
    varying = call.space.varying(labels)
    if varying and channel not in varying and any(d > channel for d in varying):
        call.space.pin(labels, call.cause("it mixes neighbouring units as if they were positions"))
    return call.space.collapse(labels, channel, call.cause("it mixes neighbouring positions"))


RULES: dict[str, Rule] = {
    "linear": linear,
    "embedding": embedding,
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), convolution),
    **dict.fromkeys(
        ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), transposed_convolution
    ),
}
