"""Which units to remove on trial."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from epigram.records import BoolArray, Group

_SEED = 20170224


def patterns(groups: list[Group]) -> Iterator[dict[str, BoolArray]]:
    """Removals that tell apart: either end, all but one, various numbers, every second group.

    After those at random without end, for networks where a literal could count units.
    """
    random = np.random.default_rng(_SEED)
    yield {group.name: np.arange(group.units) > 0 for group in groups}
    yield {group.name: np.arange(group.units) < group.units - 1 for group in groups}
    various = _at_random(groups, random)
    yield various
    yield {group.name: np.arange(group.units) == group.units - 1 for group in groups}
    if len(groups) > 1:
        yield {group.name: various[group.name] for group in groups[::2]}
        yield {group.name: various[group.name] for group in groups[1::2]}
    while True:
        yield _at_random(groups, random)


def _at_random(groups: list[Group], random: np.random.Generator) -> dict[str, BoolArray]:
    """Keep a random number of units of each group: at least one, and not all."""
    keep = {}
    for group in groups:
        kept = random.permutation(group.units)[: random.integers(1, group.units)]
        keep[group.name] = np.isin(np.arange(group.units), kept)
    return keep
