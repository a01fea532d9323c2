"""Is this very removal, from this very network, exact? The question before a cut that cannot be undone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from epigram.structure.copying import copied
from epigram.structure.general import Subject, doubled
from epigram.structure.removals import Removals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from epigram.records import BoolArray, Structure


def why_not_exact(
    network: nn.Module, structure: Structure, keep: Mapping[str, BoolArray], inputs: tuple[Any, ...]
) -> str:
    """Why the smaller network would not compute what the masked one does; "" if it does.

    Decided in double precision where the network takes that.

    Args:
        network: a plain one; it is not changed.
        structure: of this network.
        keep: as for :func:`epigram.structure.slice_plan`.
        inputs: the positional arguments of one call.

    Raises:
        ConfigError: as :func:`epigram.structure.slice_plan`.
        UnsupportedModelError: the network cannot be copied.
    """
    reason = ""
    for copy, given in ((copied(network).double(), doubled(inputs)), (copied(network), inputs)):
        subject = Subject(copy, given, operations=0, empty=None, blind=False)
        removals = Removals(structure, subject)
        obstacle = removals.attempt(dict(keep), structure.attributes, "values")
        if obstacle is None:
            return ""
        reason = obstacle.reason
        if obstacle.kind != "sizes":
            break
    return reason
