"""An executor without processes, whose clock is a number: for tests of whatever stands above."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, final

from epigram.errors import ConfigError
from epigram.runner.protocol import Exit, Handle, Job, Lease, Reason, Slot


@dataclass(frozen=True)
class FakeSlot:
    """A slot in name only."""

    id: str
    device_env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FakeTrial:
    """What a pretended trial does, in virtual seconds after its start.

    Args:
        seconds: until it ends by itself; infinity = never.
        code: what it returns then; None together with ``signal``.
        signal: what kills it then, when it does not end well.
        stop_seconds: how long it takes to end after being asked; None = it does not listen, and is
            killed after the grace.
        steps: (time, what happens then), e.g. a line appended to the run's ``metrics.jsonl``. What
            lies after its end does not happen.
        note: what its exit says to people.
        lost: its machine goes away at ``seconds``.
        limit: it takes more than it may at ``seconds``, and is killed: what it took, in words.
        unkillable: nothing ends it; its slot is quarantined when it should have gone.
    """

    seconds: float
    code: int | None = 0
    signal: int | None = None
    stop_seconds: float | None = 0.0
    steps: Sequence[tuple[float, Callable[[], None]]] = ()
    lost: bool = False
    note: str = ""
    limit: str = ""
    unkillable: bool = False


Behaviour: TypeAlias = Callable[[Job], FakeTrial]


@dataclass
class _Running:
    job: Job
    slot: Slot
    trial: FakeTrial
    start: float
    end: float
    exit: Exit
    steps: list[tuple[float, Callable[[], None]]]


@final
class FakeExecutor:
    """Runs jobs as ``behaviour`` says they would run; time passes in ``poll`` only.

    ``poll(timeout_s)`` goes to the next moment at which a trial ends, or forward by ``timeout_s``,
    whichever is sooner, and lets everything happen that falls between.

    Args:
        behaviour: what a job's trial does.
        slots: how many, or which.

    Example:
        >>> from pathlib import Path
        >>> with FakeExecutor(lambda job: FakeTrial(seconds=60.0), slots=1) as executor:
        ...     job = Job("a", 1, ("train",), Path(), {}, grace_s=5.0, wall_s=None)
        ...     handle = executor.start(job, executor.slots()[0])
        ...     early, late = executor.poll(10.0), executor.poll(100.0)
        >>> (early, late[0].reason, executor.now)
        ([], 'exit', 60.0)
    """

    containment = "fake"

    def __init__(self, behaviour: Behaviour, *, slots: int | Sequence[Slot] = 2) -> None:
        self.now = 0.0
        self.started: list[Job] = []
        self.quarantined: dict[str, str] = {}
        self._behaviour = behaviour
        self._slots: list[Slot] = (
            [FakeSlot(f"fake-{i}") for i in range(slots)] if isinstance(slots, int) else list(slots)
        )
        self._running: dict[tuple[str, int], _Running] = {}

    def __enter__(self) -> FakeExecutor:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def slots(self) -> Sequence[Slot]:
        taken = {one.slot.id for one in self._running.values()} | self.quarantined.keys()
        return [slot for slot in self._slots if slot.id not in taken]

    def start(self, job: Job, slot: Slot) -> Handle:
        if slot.id not in {free.id for free in self.slots()}:
            raise ConfigError(f"start: slot {slot.id} is not free; take one of slots()")
        key = job.run_id, job.attempt
        if key in {(old.run_id, old.attempt) for old in self.started}:
            raise ConfigError(f"start: run {job.run_id} attempt {job.attempt} was started before")
        trial = self._behaviour(job)
        reason: Reason = "lost" if trial.lost else "limit" if trial.limit else "exit"
        signal = 9 if trial.limit else trial.signal
        code = None if trial.lost or signal is not None else trial.code
        one = _Running(
            job,
            slot,
            trial,
            self.now,
            self.now + trial.seconds,
            Exit(*key, reason, code, signal, 0.0, 0, trial.limit or trial.note),
            sorted(((self.now + at, do) for at, do in trial.steps), key=lambda step: step[0]),
        )
        self._running[key] = one
        self.started.append(job)
        if job.wall_s is not None and job.wall_s < trial.seconds:
            self._end(one, self.now + job.wall_s, "timeout", job.grace_s)
        return Handle(*key, slot.id, Lease(*key, slot.id, 0, 0, "fake"))

    def stop(self, h: Handle, hard: bool = False) -> None:
        one = self._running.get((h.run_id, h.attempt))
        if one is not None:
            wall = one.job.wall_s
            late = wall is not None and self.now >= one.start + wall
            reason: Reason = "timeout" if late else "stopped"
            self._end(one, self.now, reason, 0.0 if hard else one.job.grace_s)

    def poll(self, timeout_s: float) -> Sequence[Exit]:
        horizon = self.now + max(timeout_s, 0.0)
        until = min([horizon, *(one.end for one in self._running.values())])
        self._let_happen(until)
        self.now = until
        over = [key for key, one in self._running.items() if one.end <= self.now]
        return [self._leave(key) for key in over]

    def recover(self, leases: Iterable[Lease]) -> Sequence[Exit]:
        each = dict.fromkeys((one.run_id, one.attempt) for one in leases)
        return [Exit(*key, "driver-lost", None, None, 0.0, 0) for key in each]

    def close(self) -> None:
        self._running.clear()

    def _end(self, one: _Running, at: float, reason: Reason, grace_s: float) -> None:
        """The trial is asked to end at ``at``; the sooner of two ends counts."""
        listens = one.trial.stop_seconds is not None and one.trial.stop_seconds <= grace_s
        wait = one.trial.stop_seconds if listens and one.trial.stop_seconds is not None else grace_s
        if at + wait >= one.end:
            return
        one.end = at + wait
        code, signal = (one.trial.code, None) if listens and grace_s > 0 else (None, 9)
        one.exit = Exit(one.job.run_id, one.job.attempt, reason, code, signal, wait, 0)

    def _let_happen(self, until: float) -> None:
        """Every step of every running trial up to ``until``, in the order of time."""
        due = [
            (at, order, do)
            for order, one in enumerate(self._running.values())
            for at, do in one.steps
            if at <= min(until, one.end)
        ]
        for one in self._running.values():
            one.steps = [step for step in one.steps if step[0] > min(until, one.end)]
        for at, _, do in sorted(due, key=lambda step: step[:2]):
            self.now = at
            do()

    def _leave(self, key: tuple[str, int]) -> Exit:
        one = self._running.pop(key)
        if not one.trial.unkillable:
            return one.exit
        self.quarantined[one.slot.id] = f"{one.job.run_id} would not die"
        return Exit(*key, "unkillable", None, None, one.exit.t_kill_s, 1, "it would not die")
