"""How far above the floor a trial aims, and from where on it counts, so that its design may be confirmed."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist

from epigram.records import Floor
from epigram.search.objective import Objective
from epigram.search.verdict import alpha_of


def aimed(
    floor: Floor, *, examples: int, errors: float, judges: int | None = None, margin: float = 0.0
) -> Floor:
    """The floor that trials compress to: stricter by what judging and confirming will ask for.

    A file that sits on what counts is judged by the toss of a coin, and so is its design when it is trained
    anew. So trials aim one standard error of judging higher: five of six on their aim count.

    Args:
        floor: what has to hold for certain.
        examples: of the split that confirms.
        errors: how many of its standard errors; 2 lets most files pass.
        judges: examples of the split that judges trials.
        margin: how many of its standard errors a trial has to lie above the floor to count; 0 = none.

    Example:
        >>> str(aimed(Floor.parse("accuracy>=0.98"), examples=5000, errors=2.0))
        'accuracy>=0.98396'
    """
    error_of = Objective(floor).standard_error
    above = margin + 1.0 if margin else 0.0
    shift = max(errors * error_of(floor.value, examples), above * error_of(floor.value, judges)) * (
        1 if floor.larger_is_better else -1
    )
    value = min(max(floor.value + shift, 0.0), 1.0) if shift else floor.value
    return replace(floor, value=round(value, 6))


def confirmable_margin(*, judges: int, examples: int, files: int) -> float:
    """Standard errors above the floor at which a trial counts, so that its design may be confirmed.

    What the bound will take: where so many files share the first verdict, a file is confirmed from z standard
    errors of the other split on, which are sqrt(judges / examples) of those of judging. But one at least.

    Args:
        judges: examples of the split that judges trials.
        examples: of the split that confirms.
        files: how many will be put to the test; 0 = nothing is confirmed.

    Example:
        >>> confirmable_margin(judges=5000, examples=30_000, files=9)
        1.07
    """
    if not files:
        return 1.0
    z = NormalDist().inv_cdf(1.0 - alpha_of(1) / files)
    return max(1.0, round(z * math.sqrt(judges / examples), 2))
