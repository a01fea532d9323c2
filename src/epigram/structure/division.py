"""Which groups can go together: all that fit, found by dividing those that do not.

        all groups ──▶ shapes only, divided until each part fits ──▶ values, all that fit together
                              │ does not fit                              │ differ
                              ▼                                           ▼
                        left whole                          divided again, by shapes and values

Most of what is refused is refused for its shapes, and those need no values: they are tried on a hollow
network (see :mod:`epigram.structure.general`), where there is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from epigram.structure.attributes import choices
from epigram.structure.numbers import attribute_of
from epigram.structure.removals import Judge, Removals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from epigram.records import Attribute, Group
    from epigram.structure.general import Subject
    from epigram.structure.grouping import SizedStructure
    from epigram.structure.notes import Movement
    from epigram.structure.obstacle import Obstacle

LEAST_TRIALS = 4
"""Removals on which a part is decided before all of them are tried on what is accepted."""


class Trial:
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
        self.patterns, self.numbers = min(patterns, LEAST_TRIALS), numbers
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
