"""What every executor promises. Metrics do not pass through it: a trial writes files, others read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from epigram.errors import ConfigError

Reason: TypeAlias = Literal[
    "exit", "stopped", "timeout", "limit", "driver-lost", "lost", "unkillable"
]
"""Why a trial ended.

* ``exit``: by itself, well or badly (``code``, or ``signal`` when something else killed it);
* ``stopped``: it was asked to (it may have ended with code 0, in order, before the grace was over);
* ``timeout``: ``Job.wall_s`` was over;
* ``limit``: it took more processes or more room on the disk than the executor allows;
* ``driver-lost``: the process that started it is dead;
* ``lost``: its supervisor, or the machine it ran on, is gone;
* ``unkillable``: something of it would not die in time. Its slot is quarantined.
"""


class Slot(Protocol):
    """A place where one trial can run at a time: a graphics card, or a share of the processor."""

    @property
    def id(self) -> str:
        """The same in every process of every study on this machine."""
        ...

    @property
    def device_env(self) -> Mapping[str, str]:
        """What the trial's environment says of devices, e.g. ``CUDA_VISIBLE_DEVICES=GPU-<uuid>``."""
        ...


@dataclass(frozen=True)
class Job:
    """One attempt at a run: a command, and where it writes.

    Args:
        run_id: of the run; a word that can be a folder's name.
        attempt: 1, 2, …; the fencing token. Only the latest attempt may replace the run's files.
        argv: the command. ``argv[0]`` is looked up in the trial's ``PATH``.
        cwd: the run's folder, where the command starts. Standard output and error, and ``exit.json``,
            go to :attr:`folder` within it.
        env: what the trial's environment has beyond the driver's; wins over it, not over the slot's.
        grace_s: seconds between being asked to stop and being killed.
        wall_s: seconds after which it is asked to stop; None = never.
        oom_note: what to add to ``Exit.note`` when the trial dies of SIGKILL that we did not send.

    Raises:
        ConfigError: a value cannot be meant.
    """

    run_id: str
    attempt: int
    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]
    grace_s: float
    wall_s: float | None
    oom_note: str = ""

    def __post_init__(self) -> None:
        if not self.run_id or "/" in self.run_id or self.run_id.startswith("."):
            raise ConfigError(f"Job.run_id: got {self.run_id!r}, expected a plain folder name")
        if self.attempt < 1:
            raise ConfigError(f"Job.attempt: got {self.attempt}, expected 1 or more")
        words: object = self.argv  # a string passes for a sequence of strings
        if isinstance(words, str) or not words:
            raise ConfigError(f"Job.argv: got {self.argv!r}, expected a tuple of words")
        if not self.grace_s >= 0:
            raise ConfigError(f"Job.grace_s: got {self.grace_s}, expected 0 seconds or more")
        if self.wall_s is not None and not self.wall_s > 0:
            raise ConfigError(
                f"Job.wall_s: got {self.wall_s}, expected more than 0 seconds, or None"
            )

    @property
    def folder(self) -> Path:
        """``<cwd>/attempt-0001``: of this attempt alone."""
        return self.cwd / f"attempt-{self.attempt:04d}"


@dataclass(frozen=True)
class Exit:
    """How an attempt ended; sent once, after nothing of it was left (or it was given up).

    Args:
        run_id, attempt: of the job.
        reason: why it ended.
        code: what the command returned; None when a signal ended it, or nobody knows.
        signal: the signal that ended it, ours or another's.
        t_kill_s: seconds from the decision to end it until its last process was gone.
        survivors: processes of it that were still alive when it was given up; 0 but for ``unkillable``.
        note: one line for people, "" when there is nothing to say.
    """

    run_id: str
    attempt: int
    reason: Reason
    code: int | None
    signal: int | None
    t_kill_s: float
    survivors: int
    note: str = ""

    @property
    def ok(self) -> bool:
        """It ended by itself and returned 0."""
        return self.reason == "exit" and self.code == 0


@dataclass(frozen=True)
class Lease:
    """Who runs an attempt: enough to find it again after the driver's death, and nobody else.

    Plain data, so that it can be written down: ``Lease(**dataclasses.asdict(lease))``.

    Args:
        run_id, attempt: of the job.
        slot_id: where.
        pid: of the trial's supervisor; 0 = not on a machine that we can look at.
        start_time: of that process, in clock ticks since boot. A pid is used again, the pair is not.
        boot_id: of the kernel that runs it. Another boot id: whatever it was, it is dead.
        host: whose pid that is.
        folder: of the attempt; ``exit.json`` in it tells how it ended, even to nobody.
    """

    run_id: str
    attempt: int
    slot_id: str
    pid: int
    start_time: int
    boot_id: str
    host: str = ""
    folder: str = ""


@dataclass(frozen=True)
class Handle:
    """What ``start`` returns and ``stop`` takes."""

    run_id: str
    attempt: int
    slot_id: str
    lease: Lease


class Executor(Protocol):
    """Five verbs, and ``close``. Not safe for use from several threads at once."""

    @property
    def containment(self) -> str:
        """How processes are kept together: ``cgroup``, ``namespace``, ``subreaper`` or ``session``."""
        ...

    @property
    def quarantined(self) -> Mapping[str, str]:
        """Slots that are not handed out again, and why."""
        ...

    def slots(self) -> Sequence[Slot]:
        """The slots that are free and healthy, always in the same order."""
        ...

    def start(self, job: Job, slot: Slot) -> Handle:
        """Start a job; does not wait for anything that the trial does.

        Raises:
            ConfigError: the slot is not free, or this attempt was started before.
            StorageError: its folder or logs cannot be written; nothing was started.
            ExecutorError: nothing can be started there; if the machine is lost, its slots are gone.
            HeldError: an earlier attempt does not let go of the run's files; the slot stays free.
        """
        ...

    def stop(self, h: Handle, hard: bool = False) -> None:
        """Ask the trial's main process to end, and kill the tree after the grace; ``hard``: at once.

        Returns at once, may be repeated, and does nothing for an attempt that has ended.
        """
        ...

    def poll(self, timeout_s: float) -> Sequence[Exit]:
        """Wait at most ``timeout_s`` for attempts to end; each is reported once, its slot being clean."""
        ...

    def recover(self, leases: Iterable[Lease]) -> Sequence[Exit]:
        """At start: end what a dead driver left behind. One Exit for each lease."""
        ...

    def close(self) -> None:
        """Kill what still runs, and let go of everything. May be repeated."""
        ...
