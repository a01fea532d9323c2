"""The driver is killed, asked to leave, or started again: nothing is left, and nothing is forgotten."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.runner.hostile import LEVELS, alive, executor_of, trial_processes, wait_for

from benchmarks import kills
from epigram.runner import Lease, processes
from epigram.runner.containment import probe

ROOT = Path(__file__).resolve().parents[2]
BEST = probe().level
AT_ONCE_S = 5.0
"""Where half a second is promised: a machine busy with other things needs longer to look."""


class Driver:
    """A driver in a process of its own, with what it has written down."""

    def __init__(self, folder: Path, mode: str, level: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.runner.driver", str(folder), mode, level],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
            start_new_session=True,
        )
        wait_for(
            lambda: len(list(folder.glob("*/attempt-0001/ready"))) > 0, "a trial is ready", 120
        )
        wait_for((folder / "leases.json").exists, "leases", 120)
        self.told: dict[str, Any] = json.loads((folder / "leases.json").read_text())
        count = len(self.told["leases"])
        wait_for(
            lambda: len(list(folder.glob("*/attempt-0001/ready"))) == count, "trials are ready", 120
        )

    @property
    def leases(self) -> list[Lease]:
        return [Lease(**lease) for lease in self.told["leases"]]

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@pytest.fixture
def drivers(tmp_path: Path) -> Iterator[list[Driver]]:
    made: list[Driver] = []
    yield made
    for one in made:
        one.end()
    processes.kill_all(alive(str(tmp_path)), within_s=10.0)


def test_twenty_drivers_killed_at_random_moments(tmp_path: Path) -> None:
    """The benchmark of a thousand, in small; half of them while they start their trials."""
    usual = 1.0
    for number in range(20):
        delay = None if number % 2 == 0 else usual * number / 20
        row = kills.kill_once(tmp_path / f"s{number}", None, delay)
        usual = row["ready_seconds"] or usual
        assert row["left"] == 0, row
        assert row["live"] >= 4 * 7 or delay is not None
        assert row["seconds"] < AT_ONCE_S


@pytest.mark.parametrize("level", LEVELS)
def test_a_killed_driver_leaves_nothing(level: str, tmp_path: Path, drivers: list[Driver]) -> None:
    drivers.append(Driver(tmp_path, "hostile", level))
    assert len(alive(str(tmp_path))) >= 4 * 6
    drivers[0].process.kill()
    drivers[0].process.wait()
    wait_for(lambda: not alive(str(tmp_path)), "nothing is left", AT_ONCE_S)
    with executor_of(str(tmp_path)) as executor:
        ends = executor.recover(drivers[0].leases)
    assert [(end.run_id, end.reason) for end in ends] == [
        (f"r{i}", "driver-lost") for i in range(4)
    ]


@pytest.mark.skipif(
    not hasattr(os, "pidfd_open"), reason="without a pidfd the pipe is all there is"
)
def test_a_child_that_holds_the_drivers_pipes_does_not_hide_its_death(
    tmp_path: Path, drivers: list[Driver]
) -> None:
    drivers.append(Driver(tmp_path, "forks", BEST))
    os.kill(drivers[0].process.pid, signal.SIGKILL)
    drivers[0].process.wait()
    try:
        wait_for(lambda: not alive(str(tmp_path)), "nothing is left", AT_ONCE_S)
    finally:
        os.killpg(drivers[0].process.pid, signal.SIGKILL)  # the child


@pytest.mark.parametrize("level", LEVELS)
def test_driver_and_supervisors_killed_together(
    level: str, tmp_path: Path, drivers: list[Driver]
) -> None:
    """The root reaper inherits what the supervisors leave, and sees the driver's death itself."""
    drivers.append(Driver(tmp_path, "hostile", level))
    for pid in [drivers[0].process.pid, *(lease.pid for lease in drivers[0].leases)]:
        os.kill(pid, signal.SIGKILL)
    drivers[0].process.wait()
    wait_for(lambda: not alive(str(tmp_path)), "nothing is left", AT_ONCE_S)


@pytest.mark.parametrize("level", LEVELS)
def test_driver_reaper_and_supervisors_killed_together(
    level: str, tmp_path: Path, drivers: list[Driver]
) -> None:
    """With nobody left to kill them, daemons live (but in a namespace) until the next start."""
    drivers.append(Driver(tmp_path, "hostile", level))
    told = drivers[0].told
    for pid in [told["reaper"], drivers[0].process.pid, *(one["pid"] for one in told["leases"])]:
        os.kill(pid, signal.SIGKILL)
    drivers[0].process.wait()
    if level == "namespace":
        wait_for(
            lambda: not alive(str(tmp_path)), "the kernel has emptied the namespaces", AT_ONCE_S
        )
    with executor_of(str(tmp_path)) as executor:
        ends = executor.recover(drivers[0].leases)
        assert {(end.reason, end.survivors) for end in ends} == {("driver-lost", 0)}
        assert not trial_processes(str(tmp_path))
        assert len(executor.slots()) == 2


def nameless(folder: Path) -> list[int]:
    """Processes whose command line names a folder, whatever their environment says."""
    found = []
    for one in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (one / "cmdline").read_bytes().split(b"\0")
            found += [int(one.name)] * any(word.startswith(os.fsencode(folder)) for word in words)
    return found


@pytest.mark.parametrize("level", LEVELS)
def test_what_has_no_tags_is_found_by_its_group_alone(
    level: str, tmp_path: Path, drivers: list[Driver]
) -> None:
    """As the table in docs/runner.md has it."""
    drivers.append(Driver(tmp_path, "nameless", level))
    told = drivers[0].told
    assert len(nameless(tmp_path / "r0")) == 1
    supervisors = [one["pid"] for one in told["leases"]]
    for pid in [told["reaper"], *supervisors, drivers[0].process.pid]:
        os.kill(pid, signal.SIGKILL)  # the driver last: who sees its death, ends what it started
    drivers[0].process.wait()
    try:
        if level == "namespace":
            wait_for(lambda: not nameless(tmp_path / "r0"), "the kernel has emptied it", AT_ONCE_S)
        with executor_of(str(tmp_path)) as executor:
            executor.recover(drivers[0].leases)
        assert bool(nameless(tmp_path / "r0")) is (level == "subreaper")
    finally:
        for pid in [*nameless(tmp_path / "r0"), *nameless(tmp_path / "r1")]:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_asked_once_trials_save(
    number: signal.Signals, code: int, tmp_path: Path, drivers: list[Driver]
) -> None:
    drivers.append(Driver(tmp_path, "listens", BEST))
    drivers[0].process.send_signal(number)
    assert drivers[0].process.wait(60.0) == code
    assert not alive(str(tmp_path))
    assert sorted(path.parent.name for path in tmp_path.glob("*/checkpoint")) == ["r0", "r1"]


def test_asked_twice_trials_are_killed(tmp_path: Path, drivers: list[Driver]) -> None:
    drivers.append(Driver(tmp_path, "deaf", BEST))
    drivers[0].process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert drivers[0].process.poll() is None, "it waits for its trials, whose grace is 60 s"
    drivers[0].process.send_signal(signal.SIGINT)
    assert drivers[0].process.wait(AT_ONCE_S) == 130
    assert not alive(str(tmp_path))


# leases


def lease(process: subprocess.Popen[bytes], **changed: Any) -> Lease:
    started = processes.start_time(process.pid)
    assert started is not None
    fields = {
        "run_id": "r0", "attempt": 1, "slot_id": "cpu-0", "pid": process.pid,
        "start_time": started, "boot_id": processes.boot_id(),
    }  # fmt: skip
    return Lease(**(fields | changed))


@pytest.mark.parametrize(
    "changed",
    [{"start_time": 1}, {"boot_id": "another boot"}],
    ids=["pid-used-again", "another-boot"],
)
def test_a_pid_alone_is_no_reason_to_kill(study: str, changed: dict[str, Any]) -> None:
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        with executor_of(study) as executor:
            (end,) = executor.recover([lease(stranger, **changed)])
        assert (end.reason, end.survivors) == ("driver-lost", 0)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_pid_and_start_time_together_are(study: str) -> None:
    leftover = subprocess.Popen(["sleep", "1000"])
    try:
        with executor_of(study) as executor:
            (end,) = executor.recover([lease(leftover)])
        assert (end.reason, end.survivors) == ("driver-lost", 0)
        assert leftover.wait(5.0) == -signal.SIGKILL
    finally:
        leftover.kill()
        leftover.wait()


def test_an_ending_that_nobody_was_told_of_is_found(study: str, tmp_path: Path) -> None:
    folder = tmp_path / "attempt-0001"
    folder.mkdir()
    told = {
        "run_id": "r0", "attempt": 1, "reason": "exit", "code": 0, "signal": None,
        "t_kill_s": 0.01, "survivors": 0, "note": "",
    }  # fmt: skip
    (folder / "exit.json").write_text(json.dumps(told))
    dead = Lease("r0", 1, "cpu-0", 0, 0, "before", folder=str(folder))
    with executor_of(study) as executor:
        assert executor.recover([dead])[0].ok
        (folder / "exit.json").write_text('{"run_id": "r0", "att')
        assert executor.recover([dead])[0].reason == "driver-lost"
        (folder / "exit.json").write_text(json.dumps(told | {"run_id": "another"}))
        assert executor.recover([dead])[0].reason == "driver-lost"


def test_the_sweep_spares_what_has_a_living_driver(study: str) -> None:
    from epigram.runner.link import driver_tag

    tags = {"EPIGRAM_STUDY": study, "EPIGRAM_DRIVER": driver_tag()}
    kept = subprocess.Popen(["sleep", "1000"], env=os.environ | tags)
    dead = {"EPIGRAM_STUDY": study, "EPIGRAM_DRIVER": f"1:1:{processes.boot_id()}"}
    left = subprocess.Popen(["sleep", "1000"], env=os.environ | dead)
    try:
        wait_for(lambda: len(alive(study)) == 2, "both run")
        with executor_of(study) as executor:
            executor.recover([])
        assert left.wait(5.0) == -signal.SIGKILL
        assert kept.poll() is None
    finally:
        for one in (kept, left):
            one.kill()
            one.wait()
