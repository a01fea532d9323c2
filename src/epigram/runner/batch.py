"""Trials as batch jobs, through submitit: Slurm where there is one, processes of this machine otherwise.

Each job is one attempt and runs the same supervisor as everywhere (``warden.attend``). A batch job does not die
with the program that submitted it, so it watches a file that a living driver keeps changing. The runs'
folders must be on a file system that all machines see.
"""

from __future__ import annotations

import importlib
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

from epigram import atomic
from epigram.errors import ConfigError, ExecutorError
from epigram.runner import fence, leftovers, processes
from epigram.runner.limits import Limits
from epigram.runner.protocol import Exit, Handle, Job, Lease, Slot
from epigram.runner.warden import attend

_WAITING = ("PENDING", "READY", "REQUEUED", "CONFIGURING")
_HOST = "batch job "
_BEAT_S = 5.0
_PAUSE_S = 0.1
_LATE_S = 20.0  # a job may be about to begin


@dataclass(frozen=True)
class BatchSlot:
    """The right to have one job with the scheduler; where it runs is the scheduler's choice."""

    id: str
    device_env: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Running:
    job: Job
    slot: BatchSlot
    batch: Any
    cancelled: bool = False


@final
class SlurmExecutor:
    """See :class:`~epigram.runner.protocol.Executor`. Needs the extra ``slurm``.

    Args:
        study: as for ``LocalExecutor``.
        folder: of submitit's own files, and of the heartbeat; seen from all machines.
        count: jobs at a time, those that wait in the queue included.
        cluster: ``slurm``, ``local``, or None = Slurm where there is one.
        parameters: of the jobs, by submitit's names: ``timeout_min``, ``slurm_partition``, ``mem_gb``, …
        with_cards: each job asks for a graphics card.
        limits: as for ``LocalExecutor``.
        lost_after_s: a job ends its trial when its driver has given no sign of life for so long.

    Raises:
        ExecutorError: submitit is not installed.
    """

    containment = "as on each machine"

    def __init__(
        self,
        study: str,
        *,
        folder: Path,
        count: int,
        cluster: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        with_cards: bool = False,
        limits: Limits | None = None,
        lost_after_s: float = 120.0,
    ) -> None:
        try:
            self._submitit: Any = importlib.import_module("submitit")
        except ImportError:
            raise ExecutorError("submitit is not installed: pip install 'epigram[slurm]'") from None
        self._study = study
        self._with_cards = with_cards
        self._limits = limits or Limits()
        self._lost_after_s = lost_after_s
        self._heartbeat = folder.resolve() / "heartbeat"
        self._beaten_at = -_BEAT_S
        self._beat = 0
        self.quarantined: dict[str, str] = {}
        self._slots = [BatchSlot(f"batch-{index}") for index in range(count)]
        self._running: dict[tuple[str, int], _Running] = {}
        self._executor = self._submitit.AutoExecutor(
            folder=folder.resolve() / "%j", cluster=cluster
        )
        cards = {"gpus_per_node": 1} if with_cards else {}
        self._executor.update_parameters(**cards, **dict(parameters or {}))

    def __enter__(self) -> SlurmExecutor:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def slots(self) -> Sequence[Slot]:
        taken = {one.slot.id for one in self._running.values()}
        return [slot for slot in self._slots if slot.id not in taken]

    def start(self, job: Job, slot: Slot) -> Handle:
        mine = next((one for one in self.slots() if one.id == slot.id), None)
        if not isinstance(mine, BatchSlot):
            raise ConfigError(f"start: slot {slot.id} is not free; take one of slots()")
        if fence.latest(job.cwd) >= job.attempt or (job.run_id, job.attempt) in self._running:
            raise ConfigError(f"start: run {job.run_id}: attempt {job.attempt} has begun before")
        job.folder.mkdir(parents=True, exist_ok=True)
        self._sign_of_life()
        batch = self._executor.submit(
            attend,
            self._study,
            job,
            str(self._heartbeat),
            self._lost_after_s,
            with_card=self._with_cards,
            limits=self._limits,
        )
        key = job.run_id, job.attempt
        self._running[key] = _Running(job, mine, batch)
        lease = Lease(
            *key,
            mine.id,
            0,
            0,
            "",
            host=f"{_HOST}{batch.job_id}",
            folder=str(job.folder.resolve()),
        )
        return Handle(*key, mine.id, lease)

    def stop(self, h: Handle, hard: bool = False) -> None:
        one = self._running.get((h.run_id, h.attempt))
        if one is None or one.cancelled:
            return
        atomic.write_text(one.job.folder / "stop", "hard" if hard else "soft")
        if one.batch.state.upper() in _WAITING and not one.batch.done():
            one.batch.cancel()
            one.cancelled = True

    def poll(self, timeout_s: float) -> Sequence[Exit]:
        deadline = time.monotonic() + max(timeout_s, 0.0)
        while True:
            self._sign_of_life()
            over = [key for key, one in self._running.items() if one.cancelled or one.batch.done()]
            if over:
                return [self._leave(key) for key in over]
            left = deadline - time.monotonic()
            if left <= 0:
                return []
            time.sleep(min(left, _PAUSE_S))

    def recover(self, leases: Iterable[Lease]) -> Sequence[Exit]:
        """Ask a dead driver's jobs to kill their trials, and wait until they have.

        So no two attempts run side by side. A job that says nothing for as long as it may take to miss its
        driver is not waited for any longer.
        """
        known = leftovers.by_run(leases)
        alive = [one for one in known if self._lives(one)]
        for one in alive:
            if one.folder and Path(one.folder).is_dir():
                atomic.write_text(Path(one.folder) / "stop", "hard")
            if self._executor.cluster == "slurm":
                self._slurm_job(one).cancel(check=False)
        deadline = time.monotonic() + self._lost_after_s + self._limits.kill_s
        while any(map(self._lives, alive)) and time.monotonic() < deadline:
            time.sleep(_PAUSE_S)
        ends = []
        for one in known:
            end = leftovers.settle(self._study, one, within_s=self._limits.kill_s)
            if one in alive and end.reason in ("stopped", "driver-lost"):
                late = f"; its {one.host} has not ended" if self._lives(one) else ""
                end = replace(end, reason="driver-lost", note=f"the driver is dead{late}")
            ends.append(end)
        return ends

    def _lives(self, lease: Lease) -> bool:
        """Is its job in the queue or at work, as far as one can tell?"""
        number = lease.host.removeprefix(_HOST)
        if number == lease.host or (lease.folder and (Path(lease.folder) / "exit.json").exists()):
            return False
        if self._executor.cluster == "slurm":
            return not self._slurm_job(lease).done()
        return processes.start_time(int(number)) is not None  # submitit's number is the pid

    def _slurm_job(self, lease: Lease) -> Any:
        folder = self._heartbeat.parent / "%j"
        return self._submitit.SlurmJob(folder=folder, job_id=lease.host.removeprefix(_HOST))

    def close(self) -> None:
        """Ask all jobs to kill their trials, wait a while, and cancel those that have not ended."""
        for one in self._running.values():
            atomic.write_text(one.job.folder / "stop", "hard")
        self._wait_for_all(self._limits.kill_s + _LATE_S)
        for one in self._running.values():
            if not one.batch.done():
                one.batch.cancel()
        self._wait_for_all(_LATE_S)
        self._running.clear()

    def _wait_for_all(self, within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while any(not one.batch.done() for one in self._running.values()):
            if time.monotonic() >= deadline:
                break
            time.sleep(_PAUSE_S)

    def _sign_of_life(self) -> None:
        if time.monotonic() >= self._beaten_at + _BEAT_S:
            self._beat += 1
            self._beaten_at = time.monotonic()
            atomic.write_text(self._heartbeat, f"{self._beat} {self._beaten_at}\n")

    def _leave(self, key: tuple[str, int]) -> Exit:
        one = self._running.pop(key)
        if one.cancelled:
            note = "was waiting in the queue, and was cancelled"
            return Exit(*key, "stopped", None, None, 0.0, 0, note)
        try:
            end = one.batch.result()
        except Exception as error:  # noqa: BLE001 (whatever the batch system says)
            return Exit(*key, "lost", None, None, 0.0, 0, f"the batch job failed: {_cause(error)}")
        assert isinstance(end, Exit)
        return end


def _cause(error: Exception) -> str:
    """The line of a failed job's trace that names its exception; else the first line."""
    said = str(error).strip().splitlines() or [type(error).__name__]
    named = [line for line in said if re.match(r"[\w.]+(Error|Exception|Interrupt)\b", line)]
    return (named or said[:1])[-1][:300]
