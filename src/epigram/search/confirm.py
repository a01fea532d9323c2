"""The winner of a search is the luckiest, too: what is returned is confirmed, or nothing is.

The best designs are trained anew on seeds that nobody has chosen. Each of these runs makes a file; files
that meet the floor on validation are put to the test on a split that no trial has seen: see ``verdict``.
Where none passes, the next round asks designs that met the floor with one standard error more to spare.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from epigram.search import verdict
from epigram.search.history import History, Trial

if TYPE_CHECKING:
    from epigram.search.study import Study

ROUNDS: Final = 3
"""After so many without a file that holds, the search ends without one."""


def next_trial(study: Study, *, searched: bool) -> Trial | None:
    """The next trial that confirms; None if all were asked for, the search is going on, or no verdict is left.

    Args:
        study: whose best designs are trained anew.
        searched: all trials of the search are told.
    """
    history, settings = study.history, study.settings
    if not searched or _settled(history) or verdict.is_spent(history.confirmed):
        return None
    for design in designs(study):
        for index in range(settings.confirm_seeds):
            found = study.repeat(design, index)
            if found.outcome is None and not found.running:
                return found
    return None


def designs(study: Study) -> list[Trial]:
    """The designs of this round, one trial each: the smallest with the margin that is asked for.

    Each round asks one standard error more, of designs that were not put to the test yet; if too few have
    that, those nearest to it follow.
    """
    history, objective = study.history, study.objective
    earlier = history.rounds if history.verdict_holds else 0
    tried = {history.trials[run_id].design for run_id in history.judged} if earlier else set()
    first: dict[str, Trial] = {}
    for trial in study.feasible():
        if trial.design not in tried:
            first.setdefault(trial.design, trial)

    def short(trial: Trial) -> float:
        assert trial.outcome is not None
        assert trial.outcome.metric is not None
        return objective.violation(
            trial.outcome.metric,
            examples=trial.outcome.examples,
            margin=objective.margin + earlier,
        )

    return sorted(first.values(), key=lambda t: max(0.0, short(t)))[: study.settings.confirm]


def conclude(study: Study) -> Mapping[str, Any] | None:
    """Put the files to the test and write down which is confirmed; None where nothing was asked for.

    Once more trials have been told, another verdict is made, on the files that are new.
    """
    history = study.history
    fresh = any(t.phase == "confirm" and t.run_id not in history.judged for t in history)
    if study.settings.confirm == 0 or (history.verdict_holds and not fresh):
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


def _settled(history: History) -> bool:
    """Is there a verdict that stands: a file is confirmed, or none in as many rounds as there are?"""
    if not history.verdict_holds or history.confirmed is None:
        return False
    return history.confirmed["run_id"] is not None or history.rounds >= ROUNDS
