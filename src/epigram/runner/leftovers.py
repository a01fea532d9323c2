"""What a dead driver left behind: found by lease, by tag and by control group, and ended.

The sweep kills nothing whose driver lives: every process of a trial carries in ``EPIGRAM_DRIVER`` who
started it. And nothing is ever killed by its pid alone.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from epigram.runner import cgroups, processes
from epigram.runner.protocol import Exit, Lease

# supervisors whose driver has just died are given this long to do it themselves
_SEEING_OFF_S = 1.0
_DEAD = "the driver is dead"


def sweep(study: str, *, within_s: float) -> int:
    """End every process of the study whose driver is dead; how many would not die.

    Args:
        study: the value of ``EPIGRAM_STUDY``.
        within_s: the most it may take.
    """
    deadline = time.monotonic() + within_s
    patience = time.monotonic() + min(_SEEING_OFF_S, within_s)
    while (found := _orphans({"EPIGRAM_STUDY": study})) and time.monotonic() < patience:
        time.sleep(0.01)
    left = 0
    while found and (left := processes.kill_all(found, within_s=deadline - time.monotonic())) == 0:
        found = _orphans({"EPIGRAM_STUDY": study})  # what they forked meanwhile
    for group in cgroups.of_study(study):
        if left == 0 and not _wears_a_living_driver(group):
            cgroups.kill(group)
            cgroups.remove(group, within_s=min(within_s, 1.0))
    return left


def end(study: str, run_id: str, attempt: int, *, within_s: float) -> int:
    """End every process of one attempt, whoever started it; how many would not die."""
    base = cgroups.own_group()
    if base is not None:
        group = base / cgroups.name(study, run_id, attempt)
        cgroups.kill(group)
        cgroups.remove(group, within_s=min(within_s, 1.0))
    tags = {"EPIGRAM_STUDY": study, "EPIGRAM_RUN": run_id, "EPIGRAM_ATTEMPT": str(attempt)}
    deadline = time.monotonic() + within_s
    while found := processes.tagged(tags):
        left = processes.kill_all(found, within_s=max(deadline - time.monotonic(), 0.0))
        if left:
            return left
    return 0


def settle(study: str, lease: Lease, *, within_s: float) -> Exit:
    """How the attempt under a lease ended: by what it left written, or because its driver died.

    Whatever of it still lives is killed first: its supervisor if the lease's pid, start time and boot
    all fit, and what carries its tags.
    """
    begun = time.monotonic()
    survivors = 0
    here = lease.boot_id == processes.boot_id()
    if here and lease.pid > 0:
        while processes.start_time(
            lease.pid
        ) == lease.start_time and time.monotonic() < begun + min(_SEEING_OFF_S, within_s):
            time.sleep(0.01)
        processes.kill_exactly(lease.pid, lease.start_time)
        survivors = end(study, lease.run_id, lease.attempt, within_s=within_s)
    took = time.monotonic() - begun
    if survivors:
        note = f"{survivors} processes of a dead driver would not die"
        return Exit(
            lease.run_id, lease.attempt, "unkillable", None, None, took, survivors, note
        )  # fmt: skip
    written = _written(lease)
    if written is not None:
        return written
    why = _DEAD if here else "the machine was started anew"
    return Exit(lease.run_id, lease.attempt, "driver-lost", None, None, took, 0, why)


def _orphans(tags: dict[str, str]) -> dict[int, int]:
    """Tagged processes whose driver is dead."""
    found = processes.tagged(tags)
    return {
        pid: started
        for pid, started in found.items()
        if not _lives(processes.environment(pid).get("EPIGRAM_DRIVER", ""))
    }


def _lives(driver: str) -> bool:
    """Is the process that a tag names alive? A tag that says nothing names nobody."""
    pid, _, rest = driver.partition(":")
    started, _, boot = rest.partition(":")
    if not (pid.isdigit() and started.isdigit()):
        return False
    return boot == processes.boot_id() and processes.start_time(int(pid)) == int(started)


def _wears_a_living_driver(group: Path) -> bool:
    with contextlib.suppress(OSError):
        pids = (group / "cgroup.procs").read_text("ascii").split()
        return any(_lives(processes.environment(int(p)).get("EPIGRAM_DRIVER", "")) for p in pids)
    return False


def _written(lease: Lease) -> Exit | None:
    """What ``exit.json`` says: the attempt ended, and nobody was there to be told."""
    if not lease.folder:
        return None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        told: dict[str, Any] = json.loads((Path(lease.folder) / "exit.json").read_bytes())
        found = Exit(**told)
        if (found.run_id, found.attempt) == (
            lease.run_id,
            lease.attempt,
        ) and found.reason != "driver-lost":
            return found
    return None


def by_run(leases: Iterable[Lease]) -> list[Lease]:
    """The leases in the order given, each attempt once."""
    return list({(lease.run_id, lease.attempt): lease for lease in leases}.values())
