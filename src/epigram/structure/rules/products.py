"""Products of two activations (attention above all): matmul, bmm, einsum, scaled dot products.

Each is a sum of products over named axes, ``"hnd,hmd->hnm"``. What an axis means for units:

* *batch* axes are in both factors and in the result (heads). Where units differ along one, each of
  its indices is a computation by itself: all that differs inside of it goes together, so a head is
  the unit.
* *summed* axes are in both factors only (places of queries and keys). Where units differ there and
  along no batch axis, a pair of places is the unit, and the product is what consumes it.
* *free* axes are in one factor and in the result (places of values): their units pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from epigram.structure.labels import OPAQUE
from epigram.structure.rules import opaque
from epigram.structure.rules.contractions import dense
from epigram.structure.rules.elementwise import combine

if TYPE_CHECKING:
    from torch import Tensor

    from epigram.structure.call import Call, Rule, Value

_LETTERS = "abcdefghijklmnopqrstuvw"


_MULTIPLIED = "it multiplies units with each other"
_A_LAYER = "it is a layer, written as a product with a tensor of the model: write it as F.linear(x, weight)"


def product(
    call: Call, first: Tensor, second: Tensor, axes: str, *, reason: str = _MULTIPLIED
) -> Tensor:
    """The labels of a sum of products, written as for einsum with one letter per axis.

    Args:
        call: the operation this is (part of).
        first: labels of one factor.
        second: labels of the other.
        axes: ``"hnd,hmd->hnm"``; sizes of a letter agree or one of them is 1.
        reason: why units of both that meet stay.
    """
    factors, _, out = axes.partition("->")
    a, b = factors.split(",")
    space = call.space
    size = _sizes((a, first), (b, second))
    shape = tuple(size[c] for c in out)
    batch = [c for c in out if c in a and c in b]
    if call.engine.by_places:
        _tie(call, first, a, batch)
        _tie(call, second, b, batch)
    va, vb = _varying(call, first, a), _varying(call, second, b)
    if (va | vb) & set(batch):
        _tie(call, first, a, va - set(batch))
        _tie(call, second, b, vb - set(batch))
        heads = (_laid_out(first, a, batch), _laid_out(second, b, batch))
        united = combine(call, list(heads), tuple(size[c] for c in batch))
        if united is None:
            return torch.tensor(OPAQUE).expand(shape)
        return _spread(united, "".join(batch), out, shape)
    summed = set(a) & set(b) - set(out)
    if (va | vb) <= summed and va | vb:
        return _consumed(call, first, second, a, b, sorted(summed), shape)
    one, other = (first, second) if va else (second, first)
    letters = a if va else b
    space.pin(other, call.cause("all units of the other factor need it"))
    if (va and vb) or not (va | vb) <= set(out):
        space.pin(one, call.cause(reason))
        return torch.tensor(OPAQUE).expand(shape)
    if not va and not vb:
        space.pin(one, call.cause("all of it is needed by a product"))
        return torch.tensor(OPAQUE).expand(shape)
    return _spread(_laid_out(one, letters, list(letters)), letters, out, shape)


def matmul(call: Call) -> Value:
    """``x @ y``; with a matrix of the model this is a layer, else a product of two activations."""
    second_is = "other" if "other" in call.arguments else "mat2"
    first, weight = call.argument("self"), call.weight(second_is)
    if first is None or call.weight("self") is not None:
        return opaque.rule(call)
    if weight is not None and len(weight.shape) == 2:
        return dense(call, first, second_is, None, input_axis=0)
    second = call.argument(second_is)
    if second is None or first.dim() < 2 or second.dim() < 2:
        return opaque.rule(call)
    return product(call, first, second, _matrix_axes(first.dim(), second.dim()))


def addmm(call: Call) -> Value:
    """``b + x W``: a layer whose matrix is stored ``[in, out]``."""
    labels, bias = call.argument("mat1"), call.weight("self")
    matrix, plain = call.weight("mat2"), call.get("alpha", 1) == 1 == call.get("beta", 1)
    if labels is None or bias is None or matrix is None or not plain or len(bias.shape) != 1:
        return opaque.rule(call)
    return dense(call, labels, "mat2", "self", input_axis=0)


def baddbmm(call: Call) -> Value:
    """``c + x @ y`` for a batch of matrices."""
    first, second, added = (call.argument(name) for name in ("batch1", "batch2", "self"))
    if first is None or second is None or added is None:
        return opaque.rule(call)
    result = product(call, first, second, _matrix_axes(3, 3))
    united = combine(call, [result, added], call.shape)
    return call.opaque() if united is None else united


def einsum(call: Call) -> Value:
    """Two factors, every axis written out and none twice in one of them."""
    equation = str(call.get("equation")).replace(" ", "")
    nodes = call.get("tensors")
    streams = [call.engine.stream(node) for node in nodes]
    sides, _, out = equation.partition("->")
    factors = sides.split(",")
    plain = len(streams) == 2 == len(factors) and "->" in equation and "." not in equation
    if not plain or any(len(set(f)) != len(f) for f in [*factors, out]):
        return opaque.rule(call)
    first, second = streams
    if first is None or second is None:
        return opaque.rule(call)
    own = [not isinstance(call.engine.value(node), torch.Tensor) for node in nodes]
    return product(call, first, second, equation, reason=_A_LAYER if any(own) else _MULTIPLIED)


def attention(call: Call) -> Value:
    """``softmax(q kᵀ / sqrt(d) + mask) v`` with heads on any of the leading axes."""
    query, key, value = (call.argument(name) for name in ("query", "key", "value"))
    mask = call.argument("attn_mask")
    if query is None or key is None or value is None or query.dim() < 3:
        return opaque.rule(call)
    if call.get("enable_gqa"):
        times = query.shape[-3] // key.shape[-3]
        key, value = (t.repeat_interleave(times, dim=-3) for t in (key, value))
    heads = _LETTERS[: query.dim() - 2]
    scores = product(call, query, key, f"{heads}xz,{heads}yz->{heads}xy")
    if mask is not None:
        united = combine(call, [scores, mask], tuple(scores.shape))
        scores = scores if united is None else united
    return product(call, scores, value, f"{heads}xy,{heads}yz->{heads}xz")


def _matrix_axes(first: int, second: int) -> str:
    """Leading axes are aligned at the end, as broadcasting does."""
    batch = _LETTERS[: max(first, second) - 2]
    ours, theirs = batch[len(batch) - (first - 2) :], batch[len(batch) - (second - 2) :]
    return f"{ours}xz,{theirs}zy->{batch}xy"


def _consumed(
    call: Call,
    first: Tensor,
    second: Tensor,
    a: str,
    b: str,
    summed: list[str],
    shape: tuple[int, ...],
) -> Tensor:
    """Places of queries and keys: zeroing one factor's takes the pair out of the sum."""
    ours, theirs = _laid_out(first, a, summed), _laid_out(second, b, summed)
    call.engine.note_consumed(call, ours)
    combine(call, [ours, theirs], tuple(ours.shape))
    return torch.tensor(OPAQUE).expand(shape)


def _varying(call: Call, labels: Tensor, letters: str) -> set[str]:
    return {letters[d] for d in call.space.varying(labels)}


def _tie(call: Call, labels: Tensor, letters: str, which: set[str] | list[str]) -> None:
    cause = call.cause("what is inside of a head goes together")
    call.space.tie(labels, [letters.index(c) for c in sorted(which) if c in letters], cause)


def _laid_out(labels: Tensor, letters: str, wanted: list[str]) -> Tensor:
    """The labels along the wanted axes, in that order; they do not differ along the others."""
    for d in reversed(range(len(letters))):
        if letters[d] not in wanted:
            labels = labels.select(d, 0)
    kept = [c for c in letters if c in wanted]
    return labels.permute([kept.index(c) for c in wanted])


def _spread(labels: Tensor, letters: str, out: str, shape: tuple[int, ...]) -> Tensor:
    """Labels along some axes of the result, repeated along the others."""
    present = [c for c in out if c in letters]
    labels = _laid_out(labels, letters, present)
    for position, c in enumerate(out):
        if c not in present:
            labels = labels.unsqueeze(position)
    return labels.expand(shape)


def _sizes(*factors: tuple[str, Tensor]) -> dict[str, int]:
    size: dict[str, int] = {}
    for letters, labels in factors:
        for letter, length in zip(letters, labels.shape, strict=True):
            size[letter] = max(size.get(letter, 1), length)
    return size


RULES: dict[str, Rule] = {
    **dict.fromkeys(("matmul", "bmm", "mm"), matmul),
    "addmm": addmm,
    "baddbmm": baddbmm,
    "einsum": einsum,
    "scaled_dot_product_attention": attention,
}
