"""Operations that treat every element by itself: what they combine belongs together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from epigram.structure.labels import OPAQUE

if TYPE_CHECKING:
    from torch import Tensor

    from epigram.structure.call import Call, Rule, Value


def rule(call: Call) -> Value:
    """Unite the labels of all operands, element by element, after broadcasting."""
    result = combine(call, call.streams(), call.shape)
    return call.opaque() if result is None else call.results(result)


def combine(call: Call, operands: list[Tensor], shape: tuple[int, ...]) -> Tensor | None:
    """Operands united element by element; None where none of them says anything.

    An operand that is repeated along an axis where another one's units differ is needed by all of
    those units: it is pinned and says nothing about them. If both differ along yet another axis
    (places in each head, say), there are two ways to be rectangular: an operand with units of its own there makes
    them the units; a constant (a cosine per place, repeated for all heads) makes them go together.
    """
    aligned = [_aligned(labels, len(shape)) for labels in operands]
    taking_part = []
    for position, labels in enumerate(aligned):
        others = [other for i, other in enumerate(aligned) if i != position]
        if _broadcast(call, labels, others, shape):
            call.space.pin(labels, call.cause("it is broadcast over the units of another layer"))
        else:
            taking_part.append(labels.expand(shape))
    if not taking_part:
        return None
    result = taking_part[0]
    for labels in taking_part[1:]:
        call.space.unite(result, labels, call.cause(_beside(result, labels)))
        result = _known(result, labels)
    return call.space.compact(result)


def _broadcast(call: Call, labels: Tensor, others: list[Tensor], shape: tuple[int, ...]) -> bool:
    """Is this operand repeated along an axis where another one's units still differ?"""
    space, cause = call.space, call.cause("a tensor that is repeated for all of them is in between")
    repeated = [d for d in range(len(shape)) if labels.shape[d] == 1 and shape[d] > 1]
    own = space.varying(labels)
    found = False
    for other in others:
        varying = space.varying(other)
        if not any(d in varying for d in repeated):
            continue
        if any(d in own for d in varying):
            space.tie(other, [d for d in varying if d in repeated], cause)
            continue
        space.tie(other, [d for d in varying if d not in repeated and labels.shape[d] > 1], cause)
        found = True
    return found


def first(call: Call) -> Value:
    """The first argument's labels, unchanged: copies, casts, dropout, ``zeros_like``."""
    return call.results(call.subject)


def new(call: Call) -> Value:
    """``x.new_zeros(shape)`` takes from x where and of what type it is, not its units."""
    return call.opaque()


def copy(call: Call) -> Value:
    """A copy of a bias is as good as the bias; a layer that is given it produces its units."""
    weight = call.weight("self")
    return weight if weight is not None and len(weight.shape) == 1 else first(call)


def prelu(call: Call) -> Value:
    """PReLU: one slope for all, or one per channel."""
    labels, weight = call.subject, call.weight("weight")
    if weight is None or weight.shape[0] == 1:
        return labels
    channel = 1 if labels.dim() > 1 else 0
    along = call.space.collapse(labels, channel, call.cause("its slopes are per channel"))
    call.record("weight", 0, along, "carries")
    return labels


def gated(call: Call) -> Value:
    """GLU: the first half of the units times a function of the second."""
    value, gate = call.subject.chunk(2, dim=call.get("dim", -1))
    call.space.unite(value, gate, call.cause("a gate is multiplied with a value"))
    return value


def _aligned(labels: Tensor, rank: int) -> Tensor:
    return labels.reshape((1,) * (rank - labels.dim()) + tuple(labels.shape)) if rank else labels


def _known(first_labels: Tensor, second: Tensor) -> Tensor:
    """Prefer labels that say something; both are whole, so no elements are mixed."""
    if bool((first_labels != OPAQUE).all()):
        return first_labels
    return torch.where(first_labels == OPAQUE, second, first_labels)


def _beside(first_labels: Tensor, second: Tensor) -> str:
    if bool((first_labels == OPAQUE).all()) or bool((second == OPAQUE).all()):
        return "it is combined, element by element, with a tensor that keeps its size"
    return (
        "it is combined, element by element, with the network's input or a tensor that stays whole"
    )


RULES: dict[str, Rule] = {
    "prelu": prelu,
    "glu": gated,
    "clone": copy,
    **dict.fromkeys(["new_empty", "new_empty_strided", "new_zeros", "new_ones", "new_full"], new),
    **dict.fromkeys(
        [
            "hardswish",
            "hardsigmoid",
            "log_sigmoid",
            "logsigmoid",
            "tanhshrink",
            "softsign",
            "copy",
            "masked_fill",
            "where",
        ],
        rule,
    ),
    **dict.fromkeys(
        [
            "contiguous",
            "detach",
            "alias",
            "to",
            "_to_copy",
            "type_as",
            "lift_fresh_copy",
            "lift_fresh",
            "dropout",
            "native_dropout",
            "feature_dropout",
            "alpha_dropout",
            "feature_alpha_dropout",
            "zeros_like",
            "ones_like",
            "full_like",
            "empty_like",
            "rand_like",
            "randn_like",
            "bernoulli",
            "fill",
            "zero",
            "cpu",
            "float",
            "double",
            "half",
            "bfloat16",
            "resolve_conj",
            "resolve_neg",
        ],
        first,
    ),
}
