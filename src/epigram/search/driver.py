"""Runs the trials of a study on an executor's slots, and goes on where it was killed."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, final

from epigram.errors import ConfigError, ExecutorError, HeldError, InterruptedRunError
from epigram.runner import Executor, Exit, Handle, Interrupts, Job, Lease, Slot
from epigram.search import confirm, folder
from epigram.search.attempts import Decision, decide, pause_s, usual_limit_s
from epigram.search.folder import MetricsTail
from epigram.search.history import Outcome, Trial
from epigram.search.stopping import imputed
from epigram.search.study import Asked, Study

FOLDER: Final = "{folder}"
"""Stands in a command for the attempt's folder."""


@dataclass(frozen=True)
class Command:
    """What runs a trial.

    Attributes:
        argv: the command; ``{folder}`` stands for the attempt's folder, which the environment variable
            ``EPIGRAM_TRIAL`` names too.
        env: what its environment has beyond ours.
        grace_s: seconds between being asked to stop and being killed.
        wall_s: seconds after which a trial has failed; None = never.
        patience: without ``wall_s`` a trial has failed after so many times the median of the finished
            ones, from a minute on, once three have finished; None = never.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    grace_s: float = 20.0
    wall_s: float | None = None
    patience: float | None = None


@dataclass
class _Live:
    trial: Trial
    asked: Asked
    handle: Handle
    tail: MetricsTail
    began: float
    warned: bool = False
    overdue: str = ""


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
        self._live: dict[tuple[str, int], _Live] = {}
        self._not_before: dict[str, float] = {}
        self._interrupts = Interrupts()
        self._stopping = 0
        self._alarms = 0

    def run(self) -> None:
        """Run to the end.

        Raises:
            InterruptedRunError: a signal, the time was up, or no slot is left; the same command goes on.
            StorageError: the disk is full; nothing that was acknowledged is lost.
        """
        with self._interrupts, contextlib.ExitStack() as stack:
            stack.callback(self.executor.close)
            self.study.record("driver", {"containment": self.executor.containment})
            self._recover()
            while True:
                self._heed_interrupts()
                if not self._stopping:
                    self._fill()
                if not self._live and (self._stopping or self._done()):
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
            confirm.conclude(self.study)

    def _why(self) -> str:
        signal = self._interrupts.requested
        return "the time was up" if signal is None else signal.name

    # --- begin ----------------------------------------------------------------------------------

    def _recover(self) -> None:
        """End what a dead driver has left behind; its trials are begun again, unless they were stopped."""
        waiting = self.study.history.open_trials()
        leases = {
            trial.run_id: Lease(**trial.lease) for trial in waiting if trial.lease is not None
        }
        for exit_ in self.executor.recover(leases.values()):
            trial = self.study.history.trials.get(exit_.run_id)
            if trial is not None and trial.outcome is None:
                self._record_exit(exit_)
        for trial in waiting:  # it may have come to its result before the driver died
            if trial.attempt:
                where = folder.attempt_folder(self.study.run_folder(trial), trial.attempt)
                tail = MetricsTail(where / folder.METRICS, self.study.objective)
                self._note_stop(trial, self._take_points(trial, tail))
                written = folder.read_result(
                    where, trial.run_id, trial.attempt, self.study.objective
                )
                stopped = self._stopped(trial)
                if written.kind != "failed":
                    self._tell(trial, written)
                elif stopped is not None:
                    self._tell(trial, stopped)

    def _next(self) -> Trial | None:
        """The next trial to run: an interrupted one, a new one, one that confirms; None = none now."""
        study = self.study
        running = {live.trial.run_id for live in self._live.values()}
        for trial in study.history.open_trials():
            put_off = self._clock() < self._not_before.get(trial.run_id, 0.0)
            if trial.run_id not in running and not put_off:
                return trial
        asked = study.history.search()
        if len(asked) < self.trials and not self._spent(asked):
            return study.propose()
        return confirm.next_trial(study, searched=len(study) >= len(asked))

    def _spent(self, trials: Sequence[Trial]) -> bool:
        """Have the trials taken all the steps there are? Those under way count as far as they have come."""
        if self.max_steps is None:
            return False
        return sum(max((p.step for p in t.curve()), default=0) for t in trials) >= self.max_steps

    def _done(self) -> bool:
        """Is nothing left to run, now that nothing runs?"""
        return not self.study.history.open_trials() and self._next() is None

    def _fill(self) -> None:
        slots = list(self.executor.slots())
        if not slots and not self._live and not self._done():
            why = "; ".join(f"{s}: {w}" for s, w in self.executor.quarantined.items())
            raise InterruptedRunError(
                f"no slot is left to run trials on ({why or 'none is free'}); the same command goes on"
            )
        for slot in slots:
            if self.parallel is not None and len(self._live) >= self.parallel:
                return
            trial = self._next()
            if trial is None:
                return
            self._start(trial, slot)

    def _start(self, trial: Trial, slot: Slot) -> None:
        """Start a trial; where its slot turns out to be gone it waits for another one."""
        asked = self.study.begin(trial, slot=slot.id)
        try:
            handle = self.executor.start(self._job(asked), slot)
        except HeldError as error:
            self._lost_at_start(trial, asked, str(error))
            return
        except (ConfigError, ExecutorError) as error:
            if slot.id in {free.id for free in self.executor.slots()}:
                raise
            if isinstance(error, ExecutorError):
                self._lost_at_start(trial, asked, str(error))
            return  # else another driver was quicker, or the card does not answer
        self.study.record(
            "lease",
            {"run_id": trial.run_id, "attempt": asked.attempt, "lease": asdict(handle.lease)},
        )
        tail = MetricsTail(asked.folder / folder.METRICS, self.study.objective)
        self._live[trial.run_id, asked.attempt] = _Live(trial, asked, handle, tail, self._clock())

    def _lost_at_start(self, trial: Trial, asked: Asked, why: str) -> None:
        """The machine went away, or an earlier attempt did not."""
        exit_ = Exit(asked.run_id, asked.attempt, "lost", None, None, 0.0, 0, why)
        written = Outcome("failed")
        decision = decide(trial, exit_, written, None, interrupted=False)
        self._record_exit(exit_)
        self._say(f"trial {trial.number} ({trial.run_id}) could not start: {why}")
        self._follow(trial, decision, 0.0)

    def _job(self, asked: Asked) -> Job:
        where = str(asked.folder.resolve())
        return Job(
            asked.run_id,
            asked.attempt,
            tuple(word.replace(FOLDER, where) for word in self.command.argv),
            asked.run_folder.resolve(),
            {**self.command.env, "EPIGRAM_TRIAL": where},
            self.command.grace_s,
            self.command.wall_s,
        )

    # --- watch ----------------------------------------------------------------------------------

    def _watch(self) -> None:
        for live in self._live.values():
            why = self._take_points(live.trial, live.tail)
            if live.tail.garbage and not live.warned:
                live.warned = True
                self._say(
                    f"trial {live.trial.number} ({live.trial.run_id}): {folder.METRICS} has a line "
                    f"that is no step of a curve: {live.tail.first_garbage!r}"
                )
            if self._note_stop(live.trial, why):
                self.executor.stop(live.handle)

        self._end_overdue()

    def _end_overdue(self) -> None:
        """Stop what takes many times as long as the trials that have finished."""
        times = self.command.patience
        if times is None or self.command.wall_s is not None:
            return
        limit = usual_limit_s(self.study.history, times=times)
        for live in self._live.values():
            if limit is not None and not live.overdue and self._clock() - live.began > limit:
                live.overdue = f"{limit:.0f} s, {times:g} times what finished trials took"
                self.executor.stop(live.handle)

    def _note_stop(self, trial: Trial, why: str | None) -> bool:
        """Write down that a trial shall stop, and why; is that new?"""
        if why is None or trial.stop_reason is not None:
            return False
        self.study.record("stop", {"run_id": trial.run_id, "why": why, "at": self.study.now()})
        return True

    def _take_points(self, trial: Trial, tail: MetricsTail) -> str | None:
        """New points into the ledger; why the trial should be stopped, if it should."""
        known = {point.step for point in trial.points.get(trial.attempt, ())}
        why = None
        for point in tail.read():
            if point.step not in known:
                steps = tail.steps if trial.steps != tail.steps else None
                why = self.study.report_point(trial, point, steps=steps) or why
        return why

    def _heed_interrupts(self) -> None:
        signalled = int(self._interrupts.requested is not None) + int(self._interrupts.hard)
        asked = signalled or int(self._clock() >= self._end)
        if asked > self._stopping:
            self._stopping = asked
            for live in self._live.values():
                self.executor.stop(live.handle, hard=asked > 1)
            self._say(
                f"{self._why()}: stopping {len(self._live)} trials"
                f"{' at once' if asked > 1 else ' in order; once more to stop at once'}"
            )

    def _say(self, line: str) -> None:
        if self._tell_person is not None:
            self._tell_person(" ".join(line.split()))

    def _speak_of_alarms(self) -> None:
        for alarm in self.study.history.alarms[self._alarms :]:
            self._say(str(alarm["sentence"]))
        self._alarms = len(self.study.history.alarms)

    # --- end ------------------------------------------------------------------------------------

    def _ended(self, exit_: Exit) -> None:
        live = self._live.pop((exit_.run_id, exit_.attempt), None)
        if live is None:  # of an attempt that was given up
            return
        trial = live.trial
        if live.overdue and exit_.reason == "stopped":
            note = "; ".join(part for part in (live.overdue, exit_.note) if part)
            exit_ = replace(exit_, reason="timeout", note=note)
        self._take_points(trial, live.tail)
        written = folder.read_result(
            live.asked.folder, exit_.run_id, exit_.attempt, self.study.objective
        )
        decision = decide(
            trial, exit_, written, self._stopped(trial), interrupted=bool(self._stopping)
        )
        self._record_exit(exit_)
        if exit_.reason == "unkillable":
            self._say(
                f"slot {live.handle.slot_id} is quarantined: {exit_.note or 'see the ledger'}"
            )
        self._follow(trial, decision, self._clock() - live.began)

    def _follow(self, trial: Trial, decision: Decision, seconds: float) -> None:
        """Tell how a trial came out, or put it off for a while before it is begun again."""
        if decision.outcome is not None:
            self._tell(trial, replace(decision.outcome, seconds=round(seconds, 3)))
        else:
            self._not_before[trial.run_id] = self._clock() + pause_s(trial)

    def _stopped(self, trial: Trial) -> Outcome | None:
        """What a trial that we have stopped is told with: its last forecast, or its last point."""
        if trial.stop_reason is None:
            return None
        if trial.forecasts:
            metric, size = imputed(trial.forecasts[-1], self.study.objective)
            return Outcome("stopped", metric, size, note=trial.stop_reason)
        points = [point for point in trial.curve() if point.metric is not None]
        last = points[-1] if points else None
        return Outcome(
            "stopped",
            None if last is None else last.metric,
            None if last is None else last.size,
            note=trial.stop_reason,
        )

    def _tell(self, trial: Trial, outcome: Outcome) -> None:
        self.study.record_outcome(trial, outcome)
        if outcome.kind in ("failed", "diverged"):
            self._say(f"trial {trial.number} ({trial.run_id}) {outcome.kind}: {outcome.note}")

    def _record_exit(self, exit_: Exit) -> None:
        plain: dict[str, Any] = {k: v for k, v in asdict(exit_).items() if v not in (None, "")}
        self.study.record("ended", {**plain, "at": self.study.now()})
