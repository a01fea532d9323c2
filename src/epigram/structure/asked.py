"""Sizes that ``forward`` asks about (``if h.shape[1] % 8 == 0``): what it answers may change with every unit.

Trials meet few sizes, and a branch that one of the others takes is another function. So the network runs
once with sizes that remember who compares them, and once more with fewer units. A question whose numbers
change with a group's units, and whose answer is not the same for every number of them, keeps the group.

Sizes are followed through arithmetic, not through ``int(...)``, ``math`` and the attributes of layers; what
hides there, a cut finds (:mod:`epigram.structure.exact`).
"""

from __future__ import annotations

import warnings
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from epigram.structure.listening import Listener
from epigram.structure.patterns import patterns
from epigram.structure.plan import slice_plan
from epigram.structure.removals import shrunk
from epigram.structure.trace import evaluating

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from epigram.records import Group, Structure
    from epigram.structure.listening import Question
    from epigram.structure.plan import Plan


def groups_asked_about(
    structure: Structure, groups: Sequence[Group], network: nn.Module, inputs: tuple[Any, ...]
) -> dict[str, str]:
    """Group -> the line of ``forward`` that asks for a size, with an answer that hangs on its units.

    Args:
        structure: with the numbers that follow.
        groups: those in question.
        network: of all units; a hollow one will do. It is left as it was.
        inputs: what it is called with.
    """

    def asked(keep: dict[str, Any]) -> list[Question]:
        return _questions(network, inputs, slice_plan(structure, keep))

    usual = asked({})
    if not usual:
        return {}
    various = next(islice(patterns(list(groups)), 2, None))
    if asked(various) == usual:
        return {}
    units = {group.name: group.units for group in groups}
    fewer = {name: asked({name: np.arange(count) > 0}) for name, count in units.items()}
    return _changed(usual, fewer, units)


def _changed(
    usual: list[Question], fewer: dict[str, list[Question]], units: dict[str, int]
) -> dict[str, str]:
    """Group -> the first line that asks something whose answer may change with its units.

    Args:
        usual: what the whole network asks.
        fewer: group -> what is asked without one of its units.
        units: group -> how many it has.
    """
    found: dict[str, str] = {}
    for place, ours in enumerate(usual):
        moves = {}
        for name, questions in fewer.items():
            theirs = questions[place] if place < len(questions) else None
            if theirs is None or not ours.is_that_of(theirs):
                found.setdefault(name, ours.source)
            elif theirs != ours:
                moves[name] = ours.gap - theirs.gap
        if moves and not ours.is_settled(moves, units):
            found |= {name: ours.source for name in moves if name not in found}
    for name, questions in fewer.items():
        if len(questions) > len(usual):
            found.setdefault(name, questions[len(usual)].source)
    return found


def _questions(network: nn.Module, inputs: tuple[Any, ...], plan: Plan) -> list[Question]:
    """What is asked while the network runs without some units, in order."""
    listener = Listener()
    try:
        with evaluating(network), shrunk(network, plan), warnings.catch_warnings(), listener:
            warnings.simplefilter("ignore")
            network(*inputs)
    except Exception:  # noqa: BLE001 - forward is the user's; what was asked until then counts
        return listener.questions
    return listener.questions
