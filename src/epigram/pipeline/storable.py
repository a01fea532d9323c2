"""Units whose leaving a file can say: a file holds tensors, and no numbers that modules keep beside them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from epigram.convert import PosteriorSettings, Twin, bayesianize
from epigram.records import LeftWhole
from epigram.structure import SizedStructure, analyse


def storable(structure: SizedStructure) -> SizedStructure:
    """The structure without groups that a number (``num_heads``) follows.

    Whoever reads a file makes a dense network and fits it to the tensors: numbers that repeat a shape follow, the
    others keep their dense value, and the network would compute something else.
    """
    followed = {group: a for a in structure.attributes for group, _ in a.per_unit}
    left = tuple(
        LeftWhole(group, a.path, "this number would have to follow; a file does not hold it")
        for group, a in followed.items()
    )
    return replace(
        structure,
        groups=tuple(group for group in structure.groups if group.name not in followed),
        positions=tuple(p for p in structure.positions if p.group not in followed),
        left_whole=structure.left_whole + left,
        attributes=(),
    )


def storable_twin(
    model: nn.Module, example: Tensor | tuple[Any, ...], settings: PosteriorSettings | None
) -> Twin:
    """The variational twin of which every smaller network can be read back from a file.

    Raises:
        UnsupportedModelError: see ``bayesianize``.
    """
    structure = storable(analyse(model, example))
    return bayesianize(model, example, settings=settings, structure=structure)
