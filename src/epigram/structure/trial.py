"""Trial removals: what labels promise is done to a network in general position and compared.

Labels do not see a literal in ``forward`` (``view(-1, 800)``, ``x[:, :16]``). So units of each group
are really removed from a copy whose weights are random, and the copy is run beside the masked one.
Two functions that agree there agree everywhere, up to accidents of measure zero. A group whose
removal raises, warns or changes a value is left whole, and the operation in its way is named.
Which of many groups is in the way is found by dividing them (:mod:`epigram.structure.division`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from epigram.records import LeftWhole
from epigram.structure.asked import groups_asked_about
from epigram.structure.attributes import candidates, settled
from epigram.structure.division import LEAST_TRIALS, Trial
from epigram.structure.general import for_trials, without_values
from epigram.structure.obstacle import (
    counts_units,
    explained,
    movements_by_group,
    products_by_group,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from epigram.records import Attribute
    from epigram.structure.general import Subject
    from epigram.structure.grouping import SizedStructure
    from epigram.structure.propagate import Propagation

_TRIALS, _THOROUGH_TRIALS = 6, 16
_LEAST_OF_PARTS = 2
"""Of a whole network whose parts have all been tried by themselves."""
_BUDGET_FLOPS = 100_000_000_000
"""What trials may cost, for every decision; counted, not timed, so that results do not depend on the machine."""

_UNHEARD = (
    "its removal cannot be judged on this example: masking its units changes nothing; give an example "
    "with more than one position, tokens that differ, and rows to choose where values choose them"
)

_ASKED = "forward asks `{}`, and the answer changes with the number of its units"


def keep_what_can_go(
    structure: SizedStructure, model: nn.Module, inputs: tuple[Any, ...], propagation: Propagation
) -> SizedStructure:
    """The structure without the groups whose removal does not work, each of them reported.

    Numbers that modules keep beside their tensors follow where that makes a removal exact.
    """
    removable = [group for group in structure.groups if group.units > 1]
    if not removable:
        return structure
    subject = for_trials(model, inputs)
    passed = movements_by_group(structure, propagation)
    wanted = _TRIALS + (_THOROUGH_TRIALS if counts_units(propagation) else 0)
    trial = Trial(
        structure,
        subject,
        patterns=_affordable(subject.operations, wanted=wanted),
        numbers=candidates(structure, propagation, *_readable(subject)),
        passed=passed,
    )
    refused = trial.refused(removable)
    names = {group.name for group in structure.groups} - set(refused)
    products = products_by_group(structure, propagation)
    left = tuple(
        explained(name, obstacle, passed[name], products.get(name))
        for name, obstacle in refused.items()
    )
    hidden = {name for name, product in products.items() if subject.blind or product.single}
    hidden |= names if propagation.chooses else set()
    for group in removable:
        if group.name in names & hidden and not trial.removals.is_heard(group):
            names.remove(group.name)
            operation = products[group.name].operation if group.name in products else "forward"
            left += (LeftWhole(group.name, operation, _UNHEARD),)
    free = [group for group in removable if group.name in names]
    following = replace(structure, attributes=tuple(trial.following))
    for name, source in groups_asked_about(following, free, *_readable(subject)).items():
        names.remove(name)
        left += (LeftWhole(name, "forward", _ASKED.format(source)),)
    return restricted(structure, names, left, trial.following)


def confirmed(
    structure: SizedStructure, model: nn.Module, inputs: tuple[Any, ...]
) -> SizedStructure:
    """A structure that was found part by part, without the groups that the whole network does not let go."""
    removable = [group for group in structure.groups if group.units > 1]
    if not removable:
        return structure
    subject = for_trials(model, inputs)
    few = _affordable(subject.operations, wanted=LEAST_TRIALS, least=_LEAST_OF_PARTS)
    trial = Trial(structure, subject, patterns=few, numbers=[], passed={})
    trial.following = list(structure.attributes)
    refused = trial.refused(removable)
    names = {group.name for group in structure.groups} - set(refused)
    left = tuple(
        LeftWhole(name, "forward", f"without its units the network does not work ({o.reason})")
        for name, o in refused.items()
    )
    return restricted(structure, names, left, structure.attributes)


def restricted(
    structure: SizedStructure,
    names: set[str],
    left: tuple[LeftWhole, ...],
    following: Sequence[Attribute],
) -> SizedStructure:
    """The structure with these groups only."""
    return replace(
        structure,
        groups=tuple(group for group in structure.groups if group.name in names),
        positions=tuple(p for p in structure.positions if p.group is None or p.group in names),
        left_whole=structure.left_whole + left,
        attributes=settled(following, structure.groups, names),
    )


def _readable(subject: Subject) -> tuple[nn.Module, tuple[Any, ...]]:
    """A network and inputs whose forward pass reads what the subject's does, at the least cost."""
    if subject.empty is None:
        return subject.network, subject.inputs
    return subject.empty, without_values(subject.inputs)


def _affordable(operations: int, *, wanted: int, least: int = LEAST_TRIALS) -> int:
    """How many removals to try of a group of groups; fewer where a forward pass is long."""
    return max(least, min(wanted, _BUDGET_FLOPS // max(1, 2 * operations)))
