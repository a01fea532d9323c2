"""Operations that only move elements: they simply run, on labels instead of numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import torch

from epigram.structure.call import Weight, size_of
from epigram.structure.labels import INPUT
from epigram.structure.rules import chosen

if TYPE_CHECKING:
    from torch.fx import Node

    from epigram.structure.call import Call, Rule, Value


def move(call: Call) -> Value:
    """Run the operation itself on the labels of its tensor arguments."""
    seen = _parts(call)
    seen = _flipped(call) if seen is None else seen
    return _run(call, {}) if seen is None else seen


def reshape(call: Call) -> Value:
    """Views: the label tensor may repeat in memory where the real one does not."""
    return call.space.compact(call.subject.reshape(call.shape))


def expand(call: Call) -> Value:
    """Repetition: of a map without units (a mask, an image in grey) each channel is a copy by itself.

    There may be as many copies as units they are combined with, such as heads: axis 1 of four.
    """
    result = _run(call, {})
    axis = 1
    if not isinstance(result, torch.Tensor) or result.dim() != 4 or result.shape[axis] == 1:
        return result
    labels = call.subject
    grows = labels.dim() < 4 or labels.shape[axis] == 1
    if not grows or bool((labels > INPUT).any()):
        return result
    return call.space.fresh(result.shape[axis]).reshape(1, -1, 1, 1).expand(result.shape)


def pick(call: Call) -> Value:
    """Indexing by constants; an index that depends on the input could take any unit of its axis."""
    nodes = call.node.all_input_nodes
    constants = {node: call.engine.constant(node) for node in nodes[1:]}
    if any(value is None for value in constants.values()):
        return chosen.index(call, constants)
    return _run(call, constants)


def repeat(call: Call) -> Value:
    """Each element as often as a number says, or as the values of a tensor do."""
    if isinstance(call.get("repeats"), int):
        return move(call)
    return chosen.repeats(call)


def pad(call: Call) -> Value:
    """Padding: new positions belong to the unit they are put beside; new *units* are constants."""
    labels, amounts = call.subject, list(call.get("pad"))
    dims = [labels.dim() - 1 - i // 2 for i, amount in enumerate(amounts) if amount]
    varying = call.space.varying(labels)
    channel = 1 if labels.dim() > 2 else labels.dim() - 1
    if channel in dims and channel in varying:
        call.space.pin(labels, call.cause("it adds constant units beside those of a layer"))
        return call.opaque()
    if channel not in varying and any(d in varying for d in dims):
        call.space.pin(labels, call.cause("it adds constant units beside those of a layer"))
    call.space.tie(labels, dims, call.cause("padding repeats positions"))
    for dim in dims:
        labels = labels.narrow(dim, 0, 1)
    return labels.expand(call.shape)


def divide(call: Call) -> Value:
    """So many parts of one size: what is first in each of them goes together, and so on.

    Unless they meet again as they were: then it does not matter where the borders are.
    """
    parts = move(call)
    labels = (
        [part for part in parts if isinstance(part, torch.Tensor)]
        if isinstance(parts, list)
        else []
    )
    if not _meet_again(call.node):
        for part in labels[1:]:
            if part.shape == labels[0].shape:
                call.space.unite(labels[0], part, call.cause("it is cut into parts of one size"))
    return parts


def _meet_again(parts: Node) -> bool:
    """Are all parts put together in their order, each but for what happens to it alone?"""
    ends = [_alone(part) for part in sorted(parts.users, key=lambda part: cast(int, part.args[1]))]
    last = next(iter(ends[0].users), None) if ends else None
    return last is not None and bool(last.args) and list(last.args[:1]) == [ends]


def _alone(node: Node) -> Node:
    """The last node that has nothing else to do with than this one."""
    while len(node.users) == 1:
        (user,) = node.users
        if len(user.all_input_nodes) > 1:
            break
        node = user
    return node


def shuffle(call: Call) -> Value:
    """A shuffle of so many groups, whatever the width: the first units of all groups go together, and so on."""
    batch, _, *places = call.subject.shape
    grid = call.subject.reshape(batch, call.get("groups"), -1, *places)
    call.space.tie(grid, [1], call.cause("channels are shuffled between its groups"))
    return move(call)


def _flipped(call: Call) -> Value:
    """One of the model's matrices, transposed before a layer uses it."""
    weight = call.weight("self")
    if weight is None or len(weight.shape) != 2 or call.name not in _TURNING:
        return None
    turned = call.target(torch.empty(2, 3), *call.node.args[1:], **call.node.kwargs)
    if tuple(turned.shape) != (3, 2):
        return None
    return replace(weight, shape=weight.shape[::-1], flipped=not weight.flipped)


def _parts(call: Call) -> Value:
    """Rows of one of the model's tensors, split up before a layer uses them."""
    weight = call.weight("self")
    if weight is None or weight.flipped:
        return None
    if call.name not in _SPLITTING or call.get("dim", 0) != 0:
        return None
    rows = torch.arange(weight.shape[0]) + (weight.start or 0)
    result = call.target(rows, *call.node.args[1:], **call.node.kwargs)
    parts = list(result) if isinstance(result, tuple | list) else [result]
    if any(len(part) != int(part[-1] - part[0]) + 1 for part in parts):
        return None
    found = [Weight(weight.name, (len(p), *weight.shape[1:]), int(p[0])) for p in parts]
    return found if isinstance(result, tuple | list) else found[0]


def _run(call: Call, constants: dict[Node, Any]) -> Value:
    def labels_of(node: Node) -> Any:
        size = node.meta.get("val")
        if isinstance(size, int | torch.SymInt):
            return size_of(size)
        constant = constants.get(node)
        return call.engine.stream(node) if constant is None else constant

    args, kwargs = torch.fx.node.map_arg((call.node.args, call.node.kwargs), labels_of)
    result = call.target(*args, **kwargs)
    if isinstance(result, torch.Tensor):
        return call.space.compact(result)
    return list(result)


_SPLITTING = frozenset(
    ["chunk", "split", "split_with_sizes", "tensor_split", "unsafe_chunk", "unsafe_split", "slice"]
)

_TURNING = frozenset(["t", "numpy_T", "mT", "transpose", "permute", "swapaxes", "swapdims"])

RULES: dict[str, Rule] = {
    **dict.fromkeys(
        (
            "view",
            "reshape",
            "_unsafe_view",
            "flatten",
            "unflatten",
            "view_as",
            "reshape_as",
        ),
        reshape,
    ),
    **dict.fromkeys(("expand", "expand_as", "broadcast_to"), expand),
    **dict.fromkeys(("index", "index_select", "gather", "take_along_dim"), pick),
    "repeat_interleave": repeat,
    **dict.fromkeys(("pad", "constant_pad_nd"), pad),
    **dict.fromkeys(
        [
            "permute",
            "transpose",
            "t",
            "numpy_T",
            "mT",
            "matrix_H",
            "movedim",
            "moveaxis",
            "swapaxes",
            "swapdims",
            "squeeze",
            "unsqueeze",
            "slice",
            "select",
            "narrow",
            "cat",
            "concat",
            "concatenate",
            "stack",
            "hstack",
            "vstack",
            "dstack",
            "split",
            "split_with_sizes",
            "tensor_split",
            "unsafe_split",
            "unbind",
            "repeat",
            "tile",
            "roll",
            "flip",
            "fliplr",
            "flipud",
            "rot90",
            "diagonal",
            "unfold",
            "pixel_shuffle",
            "pixel_unshuffle",
        ],
        move,
    ),
    **dict.fromkeys(("chunk", "unsafe_chunk"), divide),
    **dict.fromkeys(("channel_shuffle", "native_channel_shuffle"), shuffle),
}
