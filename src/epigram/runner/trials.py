"""A trial as its driver sees it: asked to end, ended, its slot clean."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

from epigram.errors import ExecutorError
from epigram.runner import leftovers, processes
from epigram.runner.cards import CardProbe
from epigram.runner.limits import Limits
from epigram.runner.link import Line, Reaping
from epigram.runner.places import LocalSlot
from epigram.runner.protocol import Exit, Handle, Job

LATE_S = 5.0
"""A supervisor that is this much over its own bounds is not believed in any more."""
_MOST_SWEEP_S = 5.0  # the driver waits meanwhile


@dataclass
class Trial:
    """One whose Exit has not been sent.

    Args:
        study, limits: of the executor.
        job, slot, handle: what runs where.
        line: to its supervisor; ``number`` is that one's with the reaper.
        lock: of the slot, or None.
        baseline: bytes that were taken on the slot's card before.
    """

    study: str
    limits: Limits
    job: Job
    slot: LocalSlot
    handle: Handle
    line: Line
    number: int
    lock: int | None
    baseline: int
    asked_at: float | None = None
    hard: bool = False
    told: dict[str, Any] | None = None
    told_at: float = 0.0
    exit: Exit | None = None

    def ask(self, *, hard: bool) -> None:
        """Ask for the end, unless that was done before."""
        if self.told is not None or self.hard or (self.asked_at is not None and not hard):
            return
        self.asked_at = self.asked_at if self.asked_at is not None else time.monotonic()
        self.hard = hard
        self.line.ask(hard=hard)

    def hear(self) -> None:
        """Take in the supervisor's last words, if it has spoken them or died."""
        if self.told is None:
            self.told, self.told_at = self.line.hear(), time.monotonic()

    def ending(self, reaping: Reaping) -> Exit | None:
        """How it ended, once nothing of it is left or it was given up; None = not yet."""
        self.hear()
        if self.told:
            return Exit(**self.told)
        if self.told is None:
            return self._overdue()
        if reaping.gone(self.number) is None and time.monotonic() < self.told_at + _MOST_SWEEP_S:
            return None  # its supervisor was killed, and the reaper is still at it
        left = self._sweep(_MOST_SWEEP_S)
        took = time.monotonic() - self.told_at
        reason = "unkillable" if left else "lost"
        return self._exit(reason, took, left, "its supervisor was killed")

    def verdict(self, probe: CardProbe) -> str | None:
        """On its slot: empty when it may be used again, why it never may, None = not yet."""
        assert self.exit is not None
        if self.exit.reason == "unkillable":
            return f"{self.job.run_id} left {self.exit.survivors} processes that would not die"
        if not self.slot.card:
            return ""
        try:
            more = probe.used_bytes(self.slot.card) - self.baseline
        except ExecutorError as error:
            return f"its card does not answer: {error}"
        if more <= self.limits.memory_bytes:
            return ""
        if time.monotonic() < self.told_at + self.limits.memory_s:
            return None
        taken = f"{more / 2**20:.0f} MiB of its card's memory"
        return f"{taken} did not come back after {self.job.run_id}"

    def let_go(self) -> None:
        """Close what is held for it; it may still live, if it was given up."""
        self.line.close()
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None

    def _overdue(self) -> Exit | None:
        """A supervisor keeps its own bounds; one that does not (stopped, or hung) is given up."""
        if self.asked_at is None:
            return None
        took = time.monotonic() - self.asked_at
        if took < (0.0 if self.hard else self.job.grace_s) + self.limits.kill_s + LATE_S:
            return None
        lease = self.handle.lease
        processes.kill_exactly(lease.pid, lease.start_time)
        left = self._sweep(1.0)
        self.told, self.told_at = {}, time.monotonic()
        return self._exit("unkillable", took, max(left, 1), "its supervisor does not answer")

    def _sweep(self, most_s: float) -> int:
        within_s = min(self.limits.kill_s, most_s)
        return leftovers.end(self.study, self.job.run_id, self.job.attempt, within_s=within_s)

    def _exit(self, reason: Any, took_s: float, left: int, note: str) -> Exit:
        return Exit(
            self.job.run_id, self.job.attempt, reason, None, None, took_s, left, note
        )  # fmt: skip
