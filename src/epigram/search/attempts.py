"""How an attempt ended, and what follows: a result, another attempt, or none. Pure decisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal, TypeAlias

from epigram.runner import Exit
from epigram.search.history import Outcome, Trial
from epigram.search.proposer import LOST

MOST_LOST = 3
"""Attempts that may be lost to the machine (a signal, a lost node) before a trial is given up."""
MOST_ATTEMPTS = 8
"""Attempts that may fail, however, before a trial is given up."""
LONGEST_PAUSE_S = 60.0
ENOUGH_FINISHED = 3
LEAST_LIMIT_S = 60.0

Next: TypeAlias = Literal["told", "again", "wait"]

_NO_RESULT = ("it wrote no ",)


@dataclass(frozen=True)
class Decision:
    """What follows on an exit: the outcome to tell, another attempt, or (interrupted) nothing yet."""

    next: Next
    outcome: Outcome | None = None


def decide(
    trial: Trial, exit_: Exit, written: Outcome, stopped: Outcome | None, *, interrupted: bool
) -> Decision:
    """What follows on the end of an attempt.

    Args:
        trial: with all its exits before this one.
        exit_: how it ended.
        written: what its ``result.json`` says.
        stopped: what to tell if we have stopped it; None if we have not.
        interrupted: the whole search is being stopped.
    """
    if written.kind in ("finished", "diverged"):  # however it ended: it had come to its result
        return Decision("told", written)
    if stopped is not None:
        return Decision("told", stopped)
    if exit_.reason == "stopped" and interrupted:
        return Decision("wait")
    if exit_.reason in ("timeout", "limit", "unkillable"):
        return Decision("told", Outcome("failed", note=_note(exit_, written)))
    if exit_.reason == "driver-lost":
        return Decision("again")
    tried = sum(one.get("reason") in ("exit", "lost") for one in trial.exits) + 1
    if exit_.reason in ("lost", "stopped") or exit_.signal is not None:
        lost = sum(_is_lost(one) for one in trial.exits) + 1
        if lost <= MOST_LOST and tried < MOST_ATTEMPTS:
            return Decision("again")
        how = exit_.note or (f"signal {exit_.signal}" if exit_.signal is not None else "")
        return Decision("told", Outcome("failed", note=f"{LOST}: {how}" if how else LOST))
    if exit_.code == 0:
        return Decision("told", written)
    if tried >= MOST_ATTEMPTS or _repeated(trial, exit_):
        return Decision("told", Outcome("failed", note=_note(exit_, written)))
    return Decision("again")


def pause_s(trial: Trial) -> float:
    """Before another attempt: a second after the first, and twice as long after each one more."""
    return float(min(2 ** (max(1, len(trial.exits)) - 1), LONGEST_PAUSE_S))


def usual_limit_s(trials: Iterable[Trial], *, times: float) -> float | None:
    """So many times what half of the finished trials took, a minute at least; None = too few have finished."""
    took = [t.outcome.seconds for t in trials if t.finished and t.outcome and t.outcome.seconds > 0]
    if len(took) < ENOUGH_FINISHED:
        return None
    return max(LEAST_LIMIT_S, times * median(took))


def _is_lost(data: Mapping[str, Any]) -> bool:
    """Was it lost to the machine? A driver that died is no fault of the trial's and does not count."""
    reason = data.get("reason")
    return reason == "lost" or (reason == "exit" and data.get("signal") is not None)


def _repeated(trial: Trial, exit_: Exit) -> bool:
    """The same end at the same step as an attempt before: it would end like that for ever."""
    steps = {attempt: points[-1].step for attempt, points in trial.points.items() if points}
    here = (exit_.code, steps.get(exit_.attempt))
    return any(
        (one.get("code"), steps.get(one["attempt"])) == here
        for one in trial.exits
        if one.get("reason") == "exit"
    )


def _note(exit_: Exit, written: Outcome) -> str:
    how = {
        "timeout": "it took longer than it may",
        "limit": "it took more processes or more room than it may",
        "unkillable": f"{exit_.survivors} of its processes would not die; the slot is quarantined",
    }.get(exit_.reason, f"it returned {exit_.code}")
    notes = [how, exit_.note]
    if written.note and not written.note.startswith(_NO_RESULT):
        notes.append(written.note)
    return "; ".join(note for note in notes if note)
