"""The winner of a search is the luckiest, too: what is returned is confirmed, or nothing is.

The best designs are trained anew on seeds that nobody has chosen. Each of these runs makes a file; files
that meet the floor on validation are put to the test on a split that no trial has seen: see ``verdict``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from epigram.search import verdict
from epigram.search.history import Trial

if TYPE_CHECKING:
    from epigram.search.study import Study


def next_trial(study: Study, *, searched: bool) -> Trial | None:
    """The next trial that confirms; None if all were asked for, the search is going on, or no verdict is left.

    Args:
        study: whose best designs are trained anew.
        searched: all trials of the search are told.
    """
    settings = study.settings
    if not searched or study.history.verdict_holds or verdict.is_spent(study.history.confirmed):
        return None
    for design in designs(study):
        for index in range(settings.confirm_seeds):
            known = len(study.history)
            trial = study.repeat(design, index)
            if len(study.history) > known:
                return trial
    return None


def designs(study: Study) -> list[Trial]:
    """The best designs of a search, one trial each, the smallest first."""
    first: dict[str, Trial] = {}
    for trial in study.feasible():
        first.setdefault(trial.design, trial)
    return list(first.values())[: study.settings.confirm]


def conclude(study: Study) -> Mapping[str, Any] | None:
    """Put the files to the test and write down which is confirmed; None where nothing was asked for.

    Once more trials of the search have been told, another verdict is made, on the files that are new.
    """
    history = study.history
    if study.settings.confirm == 0 or history.verdict_holds:
        return history.confirmed
    made = verdict.renewed(
        history.confirmed,
        [trial for trial in history if trial.phase == "confirm"],
        study.objective,
        study.nearest(),
        judged=history.judged,
    )
    study.record("confirmed", made)
    return history.confirmed
