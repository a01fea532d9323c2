"""How the tests of this room start trials, wait for them, and look at what is left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests.runner.trees import HOSTILE, LISTENS

from epigram.runner import LocalExecutor, processes, processor_slots
from epigram.runner.containment import refusal
from epigram.runner.limits import Limits
from epigram.runner.order import Containment
from epigram.runner.protocol import Exit, Handle, Job

__all__ = ["HOSTILE", "LISTENS"]


def needs(level: Containment) -> pytest.MarkDecorator:
    """Skips where a level cannot be had, and says why."""
    reason = refusal(level)
    return pytest.mark.skipif(reason is not None, reason=f"no {level} here: {reason}")


LEVELS = [
    pytest.param("cgroup", marks=needs("cgroup")),
    pytest.param("namespace", marks=needs("namespace")),
    pytest.param("subreaper", marks=needs("subreaper")),
]
"""Those that promise to leave nothing behind."""


def executor_of(
    study: str, slots: int = 2, level: Containment | None = None, limits: Limits | None = None
) -> LocalExecutor:
    return LocalExecutor(study, slots=processor_slots(slots), containment=level, limits=limits)


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", "-c", code)


def job(
    folder: Path,
    argv: Sequence[str],
    run_id: str = "a",
    *,
    attempt: int = 1,
    grace_s: float = 20.0,
    wall_s: float | None = None,
    oom_note: str = "",
) -> Job:
    return Job(run_id, attempt, tuple(argv), folder / run_id, {}, grace_s, wall_s, oom_note)


def start(executor: LocalExecutor, one: Job, *, ready: bool = False) -> Handle:
    handle = executor.start(one, executor.slots()[0])
    if ready:
        wait_for((one.folder / "ready").exists, f"{one.argv} ready")
    return handle


def end_of(executor: LocalExecutor, within_s: float = 30.0) -> Exit:
    """The next exit."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        for end in executor.poll(0.5):
            return end
    raise AssertionError(f"nothing ended within {within_s} s")


def wait_for(condition: Callable[[], object], what: str, within_s: float = 30.0) -> float:
    """Seconds until ``condition`` holds; fails when it does not in time."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() < begun + within_s, f"{what}: not within {within_s} s"
        time.sleep(0.005)
    return time.monotonic() - begun


def alive(study: str) -> dict[int, int]:
    """Processes that wear a study's tag: trials, their children, supervisors, the root reaper."""
    return processes.tagged({"EPIGRAM_STUDY": study})


def trial_processes(study: str) -> dict[int, int]:
    """Those of them that belong to trials' programs."""
    return {
        pid: started
        for pid, started in alive(study).items()
        if "EPIGRAM_RUN_DIR" in processes.environment(pid)
    }
