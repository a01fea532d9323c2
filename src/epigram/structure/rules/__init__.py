"""Which rule runs an operation on labels: one small table per kind of operation.

An operation nobody vouches for gets :func:`opaque.rule`, which pins whatever it touches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch._ops import OpOverload

from epigram.structure.rules import (
    contractions,
    elementwise,
    mixing,
    movement,
    normalisation,
    opaque,
    pooling,
    products,
)

if TYPE_CHECKING:
    from epigram.structure.call import Rule

RULES: dict[str, Rule] = {
    **movement.RULES,
    **elementwise.RULES,
    **contractions.RULES,
    **pooling.RULES,
    **normalisation.RULES,
    **mixing.RULES,
    **products.RULES,
}
"""Operator name (without overload and in-place mark) -> rule."""

_NOT_WHAT_THE_NAME_SAYS = {("view", "dtype"), ("reshape", "dtype")}


def find_rule(target: OpOverload, name: str) -> Rule:
    """The rule for an operator: by PyTorch's own point-wise tag, by name, or the one that pins."""
    overload = str(target).rpartition(".")[2]
    pointwise = torch.Tag.pointwise in target.tags and name != "clone"
    if pointwise or overload == "other":
        return elementwise.rule
    if (name, overload) in _NOT_WHAT_THE_NAME_SAYS:
        return opaque.rule
    return RULES.get(name, opaque.rule)
