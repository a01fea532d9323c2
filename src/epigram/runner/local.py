"""Trials on this machine: a supervisor for each, below a root reaper, in slots that are handed out clean."""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import final

from epigram.errors import ConfigError, ExecutorError
from epigram.runner import fence, leftovers, places, preparing, processes
from epigram.runner.cards import BoundedProbe, CardProbe, find_probe
from epigram.runner.containment import chosen
from epigram.runner.limits import Limits
from epigram.runner.link import Reaping, driver_tag
from epigram.runner.order import Containment
from epigram.runner.places import LocalSlot
from epigram.runner.protocol import Exit, Handle, Job, Lease, Slot
from epigram.runner.trials import LATE_S, Trial
from epigram.runner.words import note_on

_LOOK_S = 0.05  # between two looks at what no descriptor tells


@final
class LocalExecutor:
    """See :class:`~epigram.runner.protocol.Executor`; to be used in a ``with`` block.

    When the process that holds it dies, of whatever cause, so do its trials, with all they started.

    Args:
        study: names whose trials these are, e.g. the study's folder; part of their environment.
        slots: where trials run, see ``places``; None = ``local_slots``.
        containment: how processes are kept together; None = as well as it can be done here.
        limits: on trials.
        probe: knows the graphics cards; None = NVML where it is.

    Raises:
        ConfigError: that containment cannot be had here, or two slots have one name.

    Example:
        >>> import sys, tempfile
        >>> from pathlib import Path
        >>> from epigram.runner.places import processor_slots
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with LocalExecutor("a study", slots=processor_slots(1)) as executor:
        ...         command = (sys.executable, "-c", "print(6 * 7)")
        ...         job = Job("a", 1, command, Path(folder), {}, grace_s=1.0, wall_s=60.0)
        ...         handle = executor.start(job, executor.slots()[0])
        ...         (end,) = executor.poll(60.0)
        ...     print(end.ok, (job.folder / "stdout").read_text().strip())
        True 42
    """

    def __init__(
        self,
        study: str,
        *,
        slots: Sequence[LocalSlot] | None = None,
        containment: Containment | None = None,
        limits: Limits | None = None,
        probe: CardProbe | None = None,
    ) -> None:
        self._study = study
        self._limits = limits or Limits()
        self._probe: CardProbe = BoundedProbe(probe or find_probe())
        self._slots = list(places.local_slots(self._probe) if slots is None else slots)
        if len({slot.id for slot in self._slots}) < len(self._slots):
            raise ConfigError(f"slots: two have one name: {[slot.id for slot in self._slots]}")
        self._containment: Containment = chosen(containment)
        self._tags = {"EPIGRAM_STUDY": study, "EPIGRAM_DRIVER": driver_tag()}
        self._reaping = Reaping(self._tags)
        self._running: dict[tuple[str, int], Trial] = {}
        self._quarantined: dict[str, str] = {}
        self._closed = False

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    @property
    def containment(self) -> Containment:
        return self._containment

    @property
    def quarantined(self) -> Mapping[str, str]:
        return dict(self._quarantined)

    @property
    def reaper_pid(self) -> int | None:
        """Of the process that all supervisors are children of; None before the first start."""
        return self._reaping.pid

    def slots(self) -> Sequence[Slot]:
        taken = {one.slot.id for one in self._running.values()} | self._quarantined.keys()
        return [slot for slot in self._slots if slot.id not in taken and places.free(slot)]

    # starting

    def start(self, job: Job, slot: Slot) -> Handle:
        """See the protocol.

        Raises:
            ConfigError: the slot is not free, or this attempt, or a later one, has begun before.
            StorageError: its folder or logs cannot be written; nothing was started.
            ExecutorError: no process can be started.
            HeldError: an earlier attempt does not let go of the run's files; the slot stays free.
        """
        place = self._checked(slot)
        lock = places.lock(place) if place.card else None
        if place.card and lock is None:
            raise ConfigError(
                f"start: slot {slot.id} was taken by another driver; take one of slots()"
            )
        logs: list[int] = []
        try:
            baseline = self._baseline(place)
            logs += preparing.open_logs(job)
            fence.claim(job.cwd, job.attempt)
            order = preparing.order_for(
                job,
                place,
                self._study,
                tags=self._tags,
                containment=self._containment,
                limits=self._limits,
            )
            line, pid, started, number = self._reaping.launch(order, (logs[0], logs[1]), lock)
        except BaseException:
            if lock is not None:
                os.close(lock)
            raise
        finally:
            for descriptor in logs:
                os.close(descriptor)
        lease = Lease(
            job.run_id, job.attempt, slot.id, pid, started, processes.boot_id(),
            socket.gethostname(), str(job.folder),
        )  # fmt: skip
        handle = Handle(job.run_id, job.attempt, slot.id, lease)
        self._running[job.run_id, job.attempt] = Trial(
            self._study, self._limits, job, place, handle, line, number, lock, baseline
        )
        return handle

    def _checked(self, slot: Slot) -> LocalSlot:
        if self._closed:
            raise ConfigError("start: this executor is closed")
        for mine in self._slots:
            if mine.id == slot.id and mine.id not in {free.id for free in self.slots()}:
                raise ConfigError(f"start: slot {slot.id} is not free; take one of slots()")
            if mine.id == slot.id:
                return mine
        raise ConfigError(f"start: slot {slot.id} is not one of this executor's")

    def _baseline(self, slot: LocalSlot) -> int:
        if not slot.card:
            return 0
        try:
            return self._probe.used_bytes(slot.card)
        except ExecutorError as error:
            self._quarantined[slot.id] = f"its card does not answer: {error}"
            raise ConfigError(
                f"start: slot {slot.id}: its card does not answer: {error}"
            ) from error

    # ending

    def stop(self, h: Handle, hard: bool = False) -> None:
        one = self._running.get((h.run_id, h.attempt))
        if one is not None:
            one.ask(hard=hard)

    def poll(self, timeout_s: float) -> Sequence[Exit]:
        deadline = time.monotonic() + max(timeout_s, 0.0)
        while True:
            ended = self._collect()
            left = deadline - time.monotonic()
            if ended or left <= 0:
                return ended
            self._wait(left)

    def recover(self, leases: Iterable[Lease]) -> Sequence[Exit]:
        limit, known = self._limits.kill_s, leftovers.by_run(leases)
        leftovers.sweep(self._study, within_s=limit)
        ends = [leftovers.settle(self._study, lease, within_s=limit) for lease in known]
        for lease, end in zip(known, ends, strict=True):
            if end.reason == "unkillable":
                self._quarantined[lease.slot_id] = end.note
        return ends

    def close(self) -> None:
        """Kill what still runs, wait for it (at most ``Limits.kill_s`` and a little), and let go."""
        if self._closed:
            return
        self._closed = True
        deadline = time.monotonic() + self._limits.kill_s + LATE_S
        for one in self._running.values():
            one.ask(hard=True)
        while any(one.told is None for one in self._running.values()):
            if time.monotonic() >= deadline:
                break
            self._wait(0.1)
            for one in self._running.values():
                one.hear()
        for one in self._running.values():
            one.let_go()
        self._running.clear()
        self._reaping.close(within_s=self._limits.kill_s + LATE_S)

    def _wait(self, timeout_s: float) -> None:
        """Until a supervisor or the reaper says something, or it is time to look again."""
        silent = all(one.told is None and one.asked_at is None for one in self._running.values())
        with selectors.DefaultSelector() as selector:
            for one in self._running.values():
                if one.told is None:
                    selector.register(one.line.status, selectors.EVENT_READ)
            if self._reaping.descriptor is not None:
                selector.register(self._reaping.descriptor, selectors.EVENT_READ)
            selector.select(timeout_s if silent else min(timeout_s, _LOOK_S))

    def _collect(self) -> list[Exit]:
        """Those that have ended and whose slots are clean, or given up."""
        self._reaping.listen()
        found = []
        for key, one in list(self._running.items()):
            one.exit = one.exit or one.ending(self._reaping)
            verdict = None if one.exit is None else one.verdict(self._probe)
            if one.exit is None or verdict is None:
                continue
            del self._running[key]
            one.let_go()
            if verdict:
                self._quarantined[one.slot.id] = verdict
            found.append(note_on(one.exit, one.job, verdict))
        return found
