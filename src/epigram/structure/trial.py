"""Trial removals: what labels promise is done to a network in general position and compared.

Labels do not see a literal in ``forward`` (``view(-1, 800)``, ``x[:, :16]``). So units of each group
are really removed from a copy whose weights are random, and the copy is run beside the masked one.
Two functions that agree there agree everywhere, up to accidents of measure zero. A group whose
removal raises, warns or changes a value is left whole, and the operation in its way is named.

        all groups ──▶ shapes only, divided until each part fits ──▶ values, all that fit together
                              │ does not fit                              │ differ
                              ▼                                           ▼
                        left whole                          divided again, by shapes and values

Most of what is refused is refused for its shapes, and those need no values: they are tried on a hollow
network (see :mod:`epigram.structure.general`), where there is one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from epigram.records import Group, LeftWhole
from epigram.structure.asked import groups_asked_about
from epigram.structure.attributes import candidates, choices, settled
from epigram.structure.general import for_trials, without_values
from epigram.structure.numbers import attribute_of
from epigram.structure.obstacle import (
    Obstacle,
    counts_units,
    explained,
    movements_by_group,
    products_by_group,
)
from epigram.structure.removals import Judge, Removals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from epigram.records import Attribute
    from epigram.structure.general import Subject
    from epigram.structure.grouping import SizedStructure
    from epigram.structure.notes import Movement
    from epigram.structure.propagate import Propagation

_TRIALS, _THOROUGH_TRIALS, _LEAST_TRIALS = 6, 16, 4
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
    trial = _Trial(
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
    few = _affordable(subject.operations, wanted=_LEAST_TRIALS, least=_LEAST_OF_PARTS)
    trial = _Trial(structure, subject, patterns=few, numbers=[], passed={})
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


class _Trial:
    """Removals from one network; ``following`` are the numbers that are found to follow."""

    def __init__(
        self,
        structure: SizedStructure,
        subject: Subject,
        *,
        patterns: int,
        numbers: list[Attribute],
        passed: Mapping[str, list[Movement]],
    ) -> None:
        self.removals = Removals(structure, subject)
        self.judge: Judge = "both"
        self.patterns, self.numbers = min(patterns, _LEAST_TRIALS), numbers
        self.all_patterns = patterns
        self.following: list[Attribute] = []
        self._lines = {name: {m.source for m in moved} for name, moved in passed.items()}
        self._refusals: set[tuple[str, frozenset[tuple[type, str]]]] = set()

    def refused(self, removable: list[Group]) -> dict[str, Obstacle]:
        """The groups that cannot go, and why.

        By their shapes first; the rest then passes by its values, all of it together and with the
        numbers that follow by then. If it does not, all is decided anew.
        """
        before = self.following
        if self.removals.empty is not None:
            accepted, refused = self.by_shapes(removable)
            if not accepted or self._passes(accepted):
                return refused
            self.following = before
            self._refusals.clear()
        return self.by_values(removable)

    def by_shapes(self, removable: list[Group]) -> tuple[list[Group], dict[str, Obstacle]]:
        """The groups that can go as far as shapes are concerned, and what is in the way of the others."""
        self.judge = "shapes"
        try:
            return self.accept([], removable)
        finally:
            self.judge = "both"

    def _passes(self, groups: list[Group]) -> bool:
        """Can all of these go together, by all patterns there are?"""
        few, self.patterns, self.judge = self.patterns, self.all_patterns, "values"
        try:
            return self._obstacle(groups) is None
        finally:
            self.patterns, self.judge = few, "both"

    def by_values(self, removable: list[Group]) -> dict[str, Obstacle]:
        """The groups that cannot go, and why.

        Decided on a few removals each; what is accepted then passes all of them, together, or is
        decided anew on all.
        """
        before = self.following
        accepted, refused = self.accept([], removable)
        if self.patterns == self.all_patterns:
            return refused
        self.patterns = self.all_patterns
        if accepted and self._obstacle(accepted) is not None:
            self.following = before
            _, more = self.accept([], accepted)
            refused |= more
        return refused

    def accept(
        self, base: list[Group], candidates: list[Group]
    ) -> tuple[list[Group], dict[str, Obstacle]]:
        """Add as many candidates to those accepted as can go with them, part by part."""
        obstacle = self._with_numbers(base, candidates)
        if obstacle is None:
            return base + candidates, {}
        if len(candidates) == 1:
            return base, {candidates[0].name: obstacle}
        refused: dict[str, Obstacle] = {}
        for part in self._parts(candidates, obstacle):
            base, more = self.accept(base, part)
            refused |= more
        return base, refused

    def _parts(self, candidates: list[Group], obstacle: Obstacle) -> tuple[list[Group], ...]:
        """Those that do not pass the line that failed and those that do, if that tells them apart; else halves."""
        suspects = [group for group in candidates if obstacle.source in self._lines_of(group)]
        if obstacle.source and 0 < len(suspects) < len(candidates):
            names = {group.name for group in suspects}
            return [group for group in candidates if group.name not in names], suspects
        if all(self._hopeless(group) for group in candidates):
            return tuple([group] for group in candidates)
        half = len(candidates) // 2
        return candidates[:half], candidates[half:]

    def _lines_of(self, group: Group) -> set[str]:
        """The lines of ``forward`` that move the group's units about."""
        return self._lines.get(group.name, set())

    def _with_numbers(self, base: list[Group], candidates: list[Group]) -> Obstacle | None:
        """What is in the way of removing all of these, with whichever numbers following."""
        before, names = self.following, {group.name for group in candidates}
        mine = [a for a in self.numbers if any(group in names for group, _ in a.per_unit)]
        hopeless = all(self._hopeless(group) for group in candidates)
        first: Obstacle | None = None
        for chosen in [[]] if hopeless else choices(self.removals.network, mine):
            self.following = before + [a for a in chosen if a not in before]
            obstacle = self._obstacle(base + candidates)
            if obstacle is None:
                return None
            first = first or obstacle
        self.following = before
        if first is not None and first.source and len(candidates) == 1:
            self._refusals.add((first.source, self._kinds(candidates[0])))
        return first

    def _hopeless(self, group: Group) -> bool:
        """Was a group that passes the same line, with the same kinds of numbers, refused with any of them?"""
        kinds = self._kinds(group)
        return any((line, kinds) in self._refusals for line in self._lines_of(group))

    def _kinds(self, group: Group) -> frozenset[tuple[type, str]]:
        """The numbers that could follow the group: the class of the module, and the attribute."""
        return frozenset(
            (type(self.removals.network.get_submodule(a.module)), attribute_of(a.name))
            for a in self.numbers
            if any(name == group.name for name, _ in a.per_unit)
        )

    def _obstacle(self, groups: list[Group]) -> Obstacle | None:
        return self.removals.obstacle(groups, self.following, count=self.patterns, judge=self.judge)


def _readable(subject: Subject) -> tuple[nn.Module, tuple[Any, ...]]:
    """A network and inputs whose forward pass reads what the subject's does, at the least cost."""
    if subject.empty is None:
        return subject.network, subject.inputs
    return subject.empty, without_values(subject.inputs)


def _affordable(operations: int, *, wanted: int, least: int = _LEAST_TRIALS) -> int:
    """How many removals to try of a group of groups; fewer where a forward pass is long."""
    return max(least, min(wanted, _BUDGET_FLOPS // max(1, 2 * operations)))
