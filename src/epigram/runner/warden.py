"""One per machine of a cluster: a local executor that is spoken to from far away.

The process it lives in is the *driver* of the supervisors there. When that process dies, with its machine
or its connection to the cluster, the trials die with it, as they do anywhere else.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from epigram.errors import ExecutorError
from epigram.runner import leftovers
from epigram.runner.cards import find_probe
from epigram.runner.limits import Limits
from epigram.runner.local import LocalExecutor
from epigram.runner.order import Containment
from epigram.runner.places import LocalSlot, card_slots, processor_slots
from epigram.runner.protocol import Exit, Handle, Job, Lease

_PAUSE_S = 0.02
_LOOK_AT_PARENT_S = 0.5


@dataclass(frozen=True)
class Machine:
    """What a warden says of itself."""

    host: str
    pid: int
    containment: Containment
    slots: tuple[LocalSlot, ...]


@final
class Warden:
    """Its methods may be called from several threads: a poll that waits lets the others through.

    Args:
        study: as for ``LocalExecutor``.
        count: how many trials at a time.
        threads: for each.
        with_cards: a graphics card for each.
        containment, limits: as for ``LocalExecutor``.
        with_parent: leave at once when the process that this one is a child of ends (Ray's raylet: its
            machine is lost to the cluster then, whatever Ray would do about this process).
    """

    def __init__(
        self,
        study: str,
        count: int,
        *,
        threads: int,
        with_cards: bool,
        containment: Containment | None,
        limits: Limits,
        with_parent: bool = False,
    ) -> None:
        self._study = study
        self._limits = limits
        if with_parent:
            threading.Thread(target=_leave_with, args=[os.getppid()], daemon=True).start()
        self._lock = threading.Lock()
        probe = find_probe()
        slots = (
            card_slots(probe, count=count, threads=threads)
            if with_cards
            else processor_slots(count, threads=threads)
        )
        self._executor = LocalExecutor(
            study, slots=slots, containment=containment, limits=limits, probe=probe
        )
        self._slots = {slot.id: slot for slot in slots}
        self._handles: dict[tuple[str, int], Handle] = {}

    def describe(self) -> Machine:
        """Where this is, and what can run here."""
        slots = tuple(self._slots.values())
        return Machine(socket.gethostname(), os.getpid(), self._executor.containment, slots)

    def start(self, job: Job, slot_id: str) -> Lease:
        """See the executor's."""
        with self._lock:
            handle = self._executor.start(job, self._slots[slot_id])
            self._handles[job.run_id, job.attempt] = handle
            return handle.lease

    def stop(self, run_id: str, attempt: int, *, hard: bool) -> None:
        """See the executor's."""
        with self._lock:
            handle = self._handles.get((run_id, attempt))
            if handle is not None:
                self._executor.stop(handle, hard)

    def poll(self, timeout_s: float) -> tuple[Sequence[Exit], Mapping[str, str]]:
        """Exits as the executor's, and the slots that are quarantined by now."""
        deadline = time.monotonic() + timeout_s
        while True:
            with self._lock:
                ends = self._executor.poll(0.0)
                quarantined = self._executor.quarantined
            if ends or time.monotonic() >= deadline:
                for end in ends:
                    self._handles.pop((end.run_id, end.attempt), None)
                return ends, quarantined
            time.sleep(_PAUSE_S)

    def settle(self, leases: Sequence[Lease]) -> list[Exit]:
        """End what is left on this machine of attempts whose driver is dead."""
        return [leftovers.settle(self._study, one, within_s=self._limits.kill_s) for one in leases]

    def close(self) -> None:
        """See the executor's."""
        with self._lock:
            self._executor.close()


def _leave_with(parent: int) -> None:
    """End this process, which is the driver of what runs here, as soon as its parent has ended."""
    while os.getppid() == parent:
        time.sleep(_LOOK_AT_PARENT_S)
    os._exit(70)


def attend(
    study: str, job: Job, heartbeat: str, lost_after_s: float, *, with_card: bool, limits: Limits
) -> Exit:
    """Run one job on this machine to its end: the whole of a batch job.

    Asked to stop by a file ``stop`` in the attempt's folder, which says ``soft`` or ``hard``.

    Args:
        study: as for ``LocalExecutor``.
        job: its folder is seen from here and from the driver.
        heartbeat: a file whose content changes as long as the driver lives.
        lost_after_s: how long it may stay the same.
        with_card: the trial gets the graphics card of the batch job.
        limits: as for ``LocalExecutor``.
    """
    probe = find_probe()
    slots = card_slots(probe, count=1) if with_card else processor_slots(1)
    with LocalExecutor(study, slots=slots, limits=limits, probe=probe) as executor:
        handle = executor.start(job, slots[0])
        beat, seen = b"", time.monotonic()
        while True:
            for end in executor.poll(0.1):
                return end
            now = _content(Path(heartbeat))
            if now != beat:
                beat, seen = now, time.monotonic()
            if time.monotonic() > seen + lost_after_s:
                executor.stop(handle, hard=True)
                return _as_lost(executor, limits)
            if asked := _content(job.folder / "stop"):
                executor.stop(handle, hard=asked == b"hard")


def _as_lost(executor: LocalExecutor, limits: Limits) -> Exit:
    ends = executor.poll(limits.kill_s + limits.memory_s + 10.0)
    if not ends:
        raise ExecutorError("attend: the trial did not end in the time that is allowed")
    return replace(ends[0], reason="driver-lost", note="the driver gave no sign of life")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes().strip()
    except OSError:
        return b""
