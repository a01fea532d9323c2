"""Which trial is next, and how it is put on a slot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import final

from epigram.errors import ConfigError, ExecutorError, HeldError, InterruptedRunError
from epigram.runner import Executor, Exit, Slot
from epigram.search import confirm, folder
from epigram.search.asked import Asked
from epigram.search.command import Command
from epigram.search.endings import Endings
from epigram.search.folder import MetricsTail
from epigram.search.following import Live, Running
from epigram.search.history import Trial
from epigram.search.study import Study


@final
class Starts:
    """Puts trials on slots as long as there are both.

    Args:
        study: open.
        executor: where trials run.
        command: what runs one.
        endings: knows which trials are put off; told of those that could not be started.
        running: attempts under way; those that are started are added.
        trials, max_steps, parallel, clock: see ``Driver``.
    """

    def __init__(
        self,
        study: Study,
        executor: Executor,
        command: Command,
        endings: Endings,
        running: Running,
        *,
        trials: int,
        max_steps: int | None,
        parallel: int | None,
        clock: Callable[[], float],
    ) -> None:
        self._study, self._executor, self._command = study, executor, command
        self._endings, self._running, self._clock = endings, running, clock
        self._trials, self._max_steps, self._parallel = trials, max_steps, parallel

    def done(self) -> bool:
        """Is nothing left to run, now that nothing runs?"""
        return not self._study.history.open_trials() and self._next() is None

    def fill(self) -> None:
        """Start trials until there is no slot for one, or no trial.

        Raises:
            InterruptedRunError: trials are left, and no slot will ever be free.
        """
        slots = list(self._executor.slots())
        if not slots and not self._running and not self.done():
            why = "; ".join(f"{s}: {w}" for s, w in self._executor.quarantined.items())
            raise InterruptedRunError(
                f"no slot is left to run trials on ({why or 'none is free'}); the same command goes on"
            )
        for slot in slots:
            if self._parallel is not None and len(self._running) >= self._parallel:
                return
            trial = self._next()
            if trial is None:
                return
            self._start(trial, slot)

    def _next(self) -> Trial | None:
        """The next trial to run: an interrupted one, a new one, one that confirms; None = none now."""
        study = self._study
        running = {live.trial.run_id for live in self._running.values()}
        for trial in study.history.open_trials():
            if trial.run_id not in running and not self._endings.put_off(trial):
                return trial
        asked = study.history.search()
        if len(asked) < self._trials and not self._spent(asked):
            return study.propose()
        return confirm.next_trial(study, searched=len(study) >= len(asked))

    def _spent(self, trials: Sequence[Trial]) -> bool:
        """Have the trials taken all the steps there are? Those under way count as far as they have come."""
        if self._max_steps is None:
            return False
        return sum(max((p.step for p in t.curve()), default=0) for t in trials) >= self._max_steps

    def _start(self, trial: Trial, slot: Slot) -> None:
        """Start a trial; where its slot turns out to be gone it waits for another one."""
        asked = self._study.begin(trial, slot=slot.id)
        try:
            handle = self._executor.start(self._command.job(asked), slot)
        except HeldError as error:
            self._endings.lost_at_start(trial, _lost(asked, str(error)))
            return
        except (ConfigError, ExecutorError) as error:
            if slot.id in {free.id for free in self._executor.slots()}:
                raise
            if isinstance(error, ExecutorError):
                self._endings.lost_at_start(trial, _lost(asked, str(error)))
            return  # else another driver was quicker, or the card does not answer
        self._study.record(
            "lease",
            {"run_id": trial.run_id, "attempt": asked.attempt, "lease": asdict(handle.lease)},
        )
        tail = MetricsTail(asked.folder / folder.METRICS, self._study.objective)
        self._running[trial.run_id, asked.attempt] = Live(trial, asked, handle, tail, self._clock())


def _lost(asked: Asked, why: str) -> Exit:
    return Exit(asked.run_id, asked.attempt, "lost", None, None, 0.0, 0, why)
