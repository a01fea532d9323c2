"""Runs the trials of a study on an executor's slots, and goes on where it was killed.

First ``recovery`` from a driver that died; then, round and round, ``starting`` fills the slots, ``following`` takes
in the curves, and ``endings`` settles what has ended; in the end ``confirm`` says which file is confirmed.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import final

from epigram.errors import InterruptedRunError
from epigram.runner import Executor, Exit, Interrupts
from epigram.search import confirm, folder
from epigram.search.attempts import usual_limit_s
from epigram.search.command import Command
from epigram.search.endings import Endings
from epigram.search.following import Live, Running, note_stop, take_points
from epigram.search.recovery import recover
from epigram.search.starting import Starts
from epigram.search.study import Study


@final
class Driver:
    """Asks, starts, watches, tells and confirms, until so many trials of the search are told.

    Args:
        study: open.
        executor: where trials run.
        command: what runs one.
        trials: how many, in all.
        max_steps: ask for no more once the trials have taken so many steps (epochs) together; None = never.
        parallel: at most so many at a time; None = as many as there are slots.
        say: told one line about whatever a person should know.
        clock: seconds that only go forward.
        pace_s: how often curves are looked at.
        max_seconds: end in order after so long; None = never.
    """

    def __init__(
        self,
        study: Study,
        executor: Executor,
        command: Command,
        *,
        trials: int,
        max_steps: int | None = None,
        parallel: int | None = None,
        say: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        pace_s: float = 0.5,
        max_seconds: float | None = None,
    ) -> None:
        self.study, self.executor, self.command = study, executor, command
        self.trials, self.parallel, self.max_steps = trials, parallel, max_steps
        self._tell_person, self._clock, self._pace = say, clock, pace_s
        self._end = math.inf if max_seconds is None else clock() + max_seconds
        self._running: Running = {}
        self._endings = Endings(study, say=self._say, clock=clock)
        self._starts = Starts(
            study,
            executor,
            command,
            self._endings,
            self._running,
            trials=trials,
            max_steps=max_steps,
            parallel=parallel,
            clock=clock,
        )
        self._interrupts = Interrupts()
        self._stopping = 0
        self._alarms = 0

    def run(self) -> None:
        """Run to the end.

        Raises:
            InterruptedRunError: a signal, the time was up, or no slot is left; the same command goes on.
            ConfigError: a file that trials run cannot be read.
            RunFolderError: the files that trials run are not those of before; nothing was started.
            StorageError: the disk is full; nothing that was acknowledged is lost.
        """
        with self._interrupts, contextlib.ExitStack() as stack:
            stack.callback(self.executor.close)
            scripts = self.command.scripts()
            self.study.run_by(scripts)
            told = {"containment": self.executor.containment, "scripts": scripts}
            self.study.record("driver", told)
            recover(self.study, self.executor, self._endings)
            while True:
                self._heed_interrupts()
                if not self._stopping:
                    self._starts.fill()
                if not self._running and (self._stopping or self._concluded()):
                    break
                self._watch()
                for exit_ in self.executor.poll(self._pace):
                    self._ended(exit_)
                self._speak_of_alarms()
            if self._stopping:
                error = InterruptedRunError(
                    f"stopped in order ({self._why()}) after {len(self.study)} of {self.trials} "
                    "trials; the same command goes on"
                )
                error.exit_code = self._interrupts.exit_code or error.exit_code
                raise error

    def _concluded(self) -> bool:
        """Is nothing left to run, after what has run was put to the test?"""
        if not self._starts.done():
            return False
        confirm.conclude(self.study)
        return self._starts.done()

    def _watch(self) -> None:
        """Take in what the curves have grown by; stop what is hopeless, and what takes too long."""
        for live in self._running.values():
            why = take_points(self.study, live.trial, live.tail)
            self._speak_of_garbage(live)
            if note_stop(self.study, live.trial, why):
                self.executor.stop(live.handle)
        self._end_overdue()

    def _end_overdue(self) -> None:
        """Stop what takes many times as long as the trials that have finished."""
        times = self.command.patience
        if times is None or self.command.wall_s is not None:
            return
        limit = usual_limit_s(self.study.history, times=times)
        for live in self._running.values():
            if limit is not None and not live.overdue and self._clock() - live.began > limit:
                live.overdue = f"{limit:.0f} s, {times:g} times what finished trials took"
                self.executor.stop(live.handle)

    def _ended(self, exit_: Exit) -> None:
        live = self._running.pop((exit_.run_id, exit_.attempt), None)
        if live is None:  # of an attempt that was given up
            return
        if live.overdue and exit_.reason == "stopped":
            note = "; ".join(part for part in (live.overdue, exit_.note) if part)
            exit_ = replace(exit_, reason="timeout", note=note)
        take_points(self.study, live.trial, live.tail)
        self._speak_of_garbage(live)
        written = folder.read_result(
            live.asked.folder, exit_.run_id, exit_.attempt, self.study.objective
        )
        if exit_.reason == "unkillable":
            why = exit_.note or "see the ledger"
            self._say(f"slot {live.handle.slot_id} is quarantined: {why}")
        self._endings.settle(
            live.trial,
            exit_,
            written,
            seconds=self._clock() - live.began,
            interrupted=bool(self._stopping),
        )

    def _heed_interrupts(self) -> None:
        signalled = int(self._interrupts.requested is not None) + int(self._interrupts.hard)
        asked = signalled or int(self._clock() >= self._end)
        if asked > self._stopping:
            self._stopping = asked
            for live in self._running.values():
                self.executor.stop(live.handle, hard=asked > 1)
            self._say(
                f"{self._why()}: stopping {len(self._running)} trials"
                f"{' at once' if asked > 1 else ' in order; once more to stop at once'}"
            )

    def _why(self) -> str:
        signal = self._interrupts.requested
        return "the time was up" if signal is None else signal.name

    def _say(self, line: str) -> None:
        if self._tell_person is not None:
            self._tell_person(" ".join(line.split()))

    def _speak_of_garbage(self, live: Live) -> None:
        if live.tail.garbage and not live.warned:
            live.warned = True
            self._say(
                f"trial {live.trial.number} ({live.trial.run_id}): {folder.METRICS} has a line "
                f"that is no step of a curve: {live.tail.first_garbage!r}"
            )

    def _speak_of_alarms(self) -> None:
        for alarm in self.study.history.alarms[self._alarms :]:
            self._say(str(alarm["sentence"]))
        self._alarms = len(self.study.history.alarms)
