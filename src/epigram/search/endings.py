"""How attempts end: what is written down of it, what the trial is told with, and whether it is begun again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, TypeAlias, final

from epigram.runner import Exit
from epigram.search.attempts import decide, pause_s
from epigram.search.history import Outcome, Trial
from epigram.search.objective import Objective
from epigram.search.stopping import imputed
from epigram.search.study import Study

Say: TypeAlias = Callable[[str], None]


def stopped(trial: Trial, objective: Objective) -> Outcome | None:
    """What a trial that we have stopped is told with: its last forecast, or its last point; None = we have not."""
    if trial.stop_reason is None:
        return None
    if trial.forecasts:
        metric, size = imputed(trial.forecasts[-1], objective)
        return Outcome("stopped", metric, size, note=trial.stop_reason)
    points = [point for point in trial.curve() if point.metric is not None]
    last = points[-1] if points else None
    return Outcome(
        "stopped",
        None if last is None else last.metric,
        None if last is None else last.size,
        note=trial.stop_reason,
    )


@final
class Endings:
    """Writes down how attempts end, and knows which trials are put off before another attempt.

    Args:
        study: open.
        say: told one line about whatever a person should know.
        clock: seconds that only go forward.
    """

    def __init__(self, study: Study, *, say: Say, clock: Callable[[], float]) -> None:
        self._study, self._say, self._clock = study, say, clock
        self._not_before: dict[str, float] = {}

    def put_off(self, trial: Trial) -> bool:
        """Is it too early for another attempt?"""
        return self._clock() < self._not_before.get(trial.run_id, 0.0)

    def settle(
        self, trial: Trial, exit_: Exit, written: Outcome, *, seconds: float, interrupted: bool
    ) -> None:
        """An attempt has ended: tell how the trial came out, or put it off before it is begun again.

        Args:
            trial: with all its exits before this one.
            exit_: how the attempt ended.
            written: what its ``result.json`` says.
            seconds: how long it took.
            interrupted: the whole search is being stopped.
        """
        told = stopped(trial, self._study.objective)
        decision = decide(trial, exit_, written, told, interrupted=interrupted)
        self.record(exit_)
        if decision.outcome is not None:
            self.tell(trial, replace(decision.outcome, seconds=round(seconds, 3)))
        else:
            self._not_before[trial.run_id] = self._clock() + pause_s(trial)

    def lost_at_start(self, trial: Trial, exit_: Exit) -> None:
        """The machine went away, or an earlier attempt did not."""
        self._say(f"trial {trial.number} ({trial.run_id}) could not start: {exit_.note}")
        self.settle(trial, exit_, Outcome("failed"), seconds=0.0, interrupted=False)

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """Write down how a trial came out; a person hears of what went wrong."""
        self._study.record_outcome(trial, outcome)
        if outcome.kind in ("failed", "diverged"):
            self._say(f"trial {trial.number} ({trial.run_id}) {outcome.kind}: {outcome.note}")

    def record(self, exit_: Exit) -> None:
        """Write down how an attempt ended."""
        plain: dict[str, Any] = {k: v for k, v in asdict(exit_).items() if v not in (None, "")}
        self._study.record("ended", {**plain, "at": self._study.now()})
