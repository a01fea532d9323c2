"""What is made ready for a trial before its supervisor starts: the order, and the files of its output."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping

from epigram.errors import StorageError
from epigram.runner import cgroups
from epigram.runner.limits import Limits
from epigram.runner.order import Containment, Order
from epigram.runner.places import LocalSlot
from epigram.runner.protocol import Job


def order_for(
    job: Job,
    slot: LocalSlot,
    study: str,
    *,
    tags: Mapping[str, str],
    containment: Containment,
    limits: Limits,
) -> Order:
    """The order to run a job on a slot.

    Args:
        job: what runs.
        slot: where.
        study: names whose trial it is.
        tags: of the driver, by which a sweep finds its processes; the trial's own are added.
        containment: how its processes are kept together.
        limits: on the trial.
    """
    own = {
        "EPIGRAM_RUN": job.run_id,
        "EPIGRAM_ATTEMPT": str(job.attempt),
        "EPIGRAM_RUN_DIR": str(job.cwd.resolve()),
        "EPIGRAM_ATTEMPT_DIR": str(job.folder.resolve()),
    }
    usual = {"PYTHONFAULTHANDLER": "1", "PYTHONUNBUFFERED": "1"}
    base = cgroups.own_group() if containment == "cgroup" else None
    group = base / cgroups.name(study, job.run_id, job.attempt) if base else None
    room = limits.max_bytes
    return Order(
        run_id=job.run_id,
        attempt=job.attempt,
        argv=job.argv,
        cwd=str(job.cwd.resolve()),
        env={**usual, **os.environ, **job.env, **slot.device_env, **tags, **own},
        folder=str(job.folder.resolve()),
        grace_s=job.grace_s,
        wall_s=job.wall_s,
        containment=containment,
        cgroup="" if group is None else str(group),
        kill_s=limits.kill_s,
        watch_s=limits.watch_s,
        max_processes=limits.max_processes,
        max_bytes=shutil.disk_usage(job.cwd).free // 2 if room is None else room,
    )


def open_logs(job: Job) -> list[int]:
    """Files for standard output and error, new for each attempt; returns their descriptors.

    Raises:
        StorageError: they cannot be made; the trial cannot be started.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as undo:
            opened = []
            for name in ("stdout", "stderr"):
                opened += [os.open(job.folder / name, flags, 0o666)]
                undo.callback(os.close, opened[-1])
            undo.pop_all()
            return opened
    except OSError as error:
        raise StorageError(
            error.errno, f"{job.folder}: {error.strerror}; nothing was started"
        ) from error
