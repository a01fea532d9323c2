"""Does the small network compute what the masked one computes?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from epigram.errors import RemovalError
from epigram.structure.chance import WithoutDropout
from epigram.structure.copying import copied, fresh
from epigram.structure.trace import ExampleInputs, as_tuple, evaluating

if TYPE_CHECKING:
    from torch import Tensor, nn

_RELATIVE_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
_COARSE_TOLERANCE = 5e-2
_SMALL_AMONG, _OUT_OF_PROPORTION = 20, 1e8
"""Of twenty numbers one is small; what is so many times as large is of another kind."""
_NO_NUMBER = "one of the outputs is not a number where the other is one"
_UNKNOWN = "outputs of both are not numbers (NaN), so nothing can be said; are all weights and inputs finite?"


def verify_removal(
    small: nn.Module,
    masked: nn.Module,
    inputs: ExampleInputs,
    *,
    tolerance: float | None = None,
) -> float:
    """The largest absolute difference between the outputs of the two networks, in eval mode.

    Removing zero terms only changes the order of summation, so what is left is rounding: the default
    tolerance is 1e-9 (float64), 1e-4 (float32) or 5e-2 (half precision) of the largest output. Where
    outputs cancel, rounding can be more than that; then copies in double precision decide.

    Raises:
        RemovalError: the outputs differ in number, shape or by more than ``tolerance`` (absolute).
    """
    given = as_tuple(inputs)
    difference, allowed, reason = compare(outputs_of(small, given), outputs_of(masked, given))
    if tolerance is not None:
        allowed, same = tolerance, not reason and difference <= tolerance
    else:
        same = not reason and (difference <= allowed or _same_in_double(small, masked, given))
    if not same:
        raise RemovalError(
            f"verify_removal: {reason or f'the outputs differ by {difference:.3g}'}, expected those of the "
            f"masked network, up to the {allowed:.3g} that rounding explains"
        )
    return difference


def outputs_of(model: nn.Module, inputs: tuple[Any, ...]) -> list[Tensor]:
    """All tensors and numbers the model returns in eval mode, without any dropout."""
    with evaluating(model), WithoutDropout():
        leaves = pytree.tree_leaves(model(*fresh(inputs)))
    kinds = (torch.Tensor, int, float)  # a width (h.shape[1]) is an output like any other
    return [torch.as_tensor(leaf) for leaf in leaves if isinstance(leaf, kinds)]


def compare(ours: list[Tensor], theirs: list[Tensor]) -> tuple[float, float, str]:
    """The worst difference, what rounding may explain of it, and a sentence where shapes differ already."""
    reason = other_shapes(ours, theirs)
    if reason:
        return math.inf, 0.0, reason
    worst, worst_share = (0.0, 0.0), -1.0
    for mine, reference in zip(ours, theirs, strict=True):
        if not reference.numel():
            continue
        gap = (_wide(mine) - _wide(reference)).abs()
        gap[mine == reference] = 0.0
        if gap.isnan().any():
            both = bool((mine.isnan() == reference.isnan()).all())
            return math.nan, 0.0, _UNKNOWN if both else _NO_NUMBER
        allowed = _rounding(reference, gap > 0)
        share = torch.where(gap > 0, gap / allowed, torch.zeros_like(gap)).flatten()
        place = int(share.argmax())
        if float(share[place]) > worst_share:  # the larger in units of what is allowed
            worst_share = float(share[place])
            worst = float(gap.flatten()[place]), float(allowed.flatten()[place])
    return *worst, ""


def other_shapes(ours: list[Tensor], theirs: list[Tensor]) -> str:
    """A sentence where the shapes of two lists of tensors differ, else ""."""
    shapes = [tuple(t.shape) for t in ours], [tuple(t.shape) for t in theirs]
    if shapes[0] == shapes[1]:
        return ""
    return f"the outputs have shapes {shapes[0]} instead of {shapes[1]}"


def _same_in_double(small: nn.Module, masked: nn.Module, inputs: tuple[Any, ...]) -> bool:
    """Do copies of them agree in double precision? False where they cannot be copied or run in it."""
    tensors = [*small.parameters(), *small.buffers()]
    if not any(t.is_floating_point() and t.dtype != torch.float64 for t in tensors):
        return False
    given: tuple[Any, ...] = pytree.tree_map(_in_double, inputs)
    try:
        outputs = [outputs_of(copied(network).double(), given) for network in (small, masked)]
    except Exception:  # noqa: BLE001 - forward is the user's, it may raise anything
        return False
    difference, allowed, reason = compare(*outputs)
    return not reason and difference <= allowed


def _in_double(value: Any) -> Any:
    floating = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value.double() if floating else value


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.complex128 if x.is_complex() else torch.float64)


def _rounding(reference: Tensor, differs: Tensor) -> Tensor:
    """What rounding explains of each number; of whole numbers and truth values nothing.

    It is relative to the largest of a tensor's numbers that differ, of which any may be a sum. Numbers out of all
    proportion to the small ones (a mask that adds -1e9 to logits) are judged by themselves.
    """
    if not reference.is_floating_point() and not reference.is_complex():
        return torch.zeros(reference.shape, dtype=torch.float64)
    size = reference.abs().double()
    size = torch.where(size.isfinite(), size, torch.zeros_like(size))
    sizes = size[(size > 0) & differs]
    sizes = sizes if len(sizes) else size[size > 0]
    if not len(sizes):
        return size
    small = float(sizes.kthvalue(1 + len(sizes) // _SMALL_AMONG).values)
    largest = sizes[sizes <= small * _OUT_OF_PROPORTION].max()
    return _RELATIVE_TOLERANCE.get(reference.dtype, _COARSE_TOLERANCE) * size.maximum(largest)
