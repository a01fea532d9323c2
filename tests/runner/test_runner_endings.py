"""However a trial ends, and whoever is killed, nothing of it is left and its slot is free again."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.runner.hostile import (
    HOSTILE,
    LEVELS,
    LISTENS,
    alive,
    end_of,
    executor_of,
    job,
    python,
    start,
    trial_processes,
    wait_for,
)

import epigram.runner
from epigram.runner import processes
from epigram.runner.limits import Limits
from epigram.runner.order import Containment

AT_ONCE_S = 2.0
"""Where half a second is promised, on the supervisor's clock; a busy machine gets more."""
STORM = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
open(os.environ["EPIGRAM_ATTEMPT_DIR"] + "/ready", "w").close()
for _ in range(300):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(1000)
        os._exit(0)
    time.sleep(0.005)
time.sleep(1000)
"""
LOADERS = """
import os, pathlib, signal, sys, torch
torch.set_num_threads(1)
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
folder = pathlib.Path(os.environ["EPIGRAM_ATTEMPT_DIR"])
data = torch.utils.data.TensorDataset(torch.zeros(1000, 8))
loader = torch.utils.data.DataLoader(data, batch_size=2, num_workers=2, persistent_workers=True)
while True:
    for batch in loader:
        (folder / "ready").touch()
        if asked:
            torch.save({"step": 1}, folder / "checkpoint")
            sys.exit(0)
"""


@pytest.mark.parametrize("level", LEVELS)
def test_a_hostile_tree_dies_at_once(level: Containment, study: str, tmp_path: Path) -> None:
    with executor_of(study, level=level) as executor:
        handle = start(executor, job(tmp_path, HOSTILE), ready=True)
        assert len(trial_processes(study)) >= 5
        executor.stop(handle, hard=True)
        end = end_of(executor)
        assert (end.reason, end.signal, end.survivors) == ("stopped", signal.SIGKILL, 0)
        assert end.t_kill_s < AT_ONCE_S
        assert not trial_processes(study)
        assert len(executor.slots()) == 2


@pytest.mark.xfail(
    sys.platform != "linux",
    reason="session: a daemon that left the session twice over is nobody's child there; macOS has "
    "no subreaper, and other processes' environments cannot always be read",
    strict=False,
)
def test_where_there_is_only_the_session_a_daemon_may_be_missed(study: str, tmp_path: Path) -> None:
    """On Linux the tags in its environment give it away at this level too."""
    with executor_of(study, level="session") as executor:
        handle = start(executor, job(tmp_path, HOSTILE), ready=True)
        executor.stop(handle, hard=True)
        end = end_of(executor)
        assert (end.reason, end.survivors) == ("stopped", 0)
        assert not trial_processes(study)


@pytest.mark.parametrize("level", LEVELS)
def test_what_a_finished_trial_leaves_running_dies_with_it(
    level: Containment, study: str, tmp_path: Path
) -> None:
    """Its daemon holds standard output open, and nobody waits for that."""
    daemon = "import os, time; os.fork() and os._exit(0); os.setsid(); time.sleep(1000)"
    with executor_of(study, level=level) as executor:
        start(executor, job(tmp_path, python(f"{daemon}; print('never')")))
        end = end_of(executor)
        assert (end.reason, end.code) == ("exit", 0)
        assert end.t_kill_s < AT_ONCE_S
        assert not trial_processes(study)


def test_no_code_of_this_room_waits_for_a_pipe_of_a_trials() -> None:
    folder = Path(epigram.runner.__file__).parent
    for path in folder.glob("*.py"):
        assert not re.search(r"communicate\(|stdout=subprocess\.PIPE", path.read_text()), path.name


def test_only_the_monotonic_clock_is_used() -> None:
    """A clock that is set, or a machine that sleeps, does not end trials or leases."""
    for path in Path(epigram.runner.__file__).parent.glob("*.py"):
        assert not re.search(r"time\.time\(|datetime\.now", path.read_text()), path.name


@pytest.mark.parametrize("level", LEVELS)
def test_a_killed_main_process_takes_its_tree_along(
    level: Containment, study: str, tmp_path: Path
) -> None:
    with executor_of(study, level=level) as executor:
        script = HOSTILE[2].removesuffix("sleep 1000") + "kill -9 $$"
        start(executor, job(tmp_path, ("sh", "-c", script), oom_note="use less memory"))
        end = end_of(executor)
        assert (end.reason, end.signal) == ("exit", signal.SIGKILL)
        assert "out of memory?" in end.note
        assert end.note.endswith("use less memory")
        assert not trial_processes(study)


@pytest.mark.parametrize("level", LEVELS)
def test_a_killed_supervisor_is_replaced_by_the_reaper(
    level: Containment, study: str, tmp_path: Path
) -> None:
    with executor_of(study, level=level) as executor:
        handle = start(executor, job(tmp_path, HOSTILE), ready=True)
        other = start(executor, job(tmp_path, LISTENS, "b"), ready=True)
        assert processes.kill_exactly(handle.lease.pid, handle.lease.start_time)
        end = end_of(executor)
        assert (end.run_id, end.reason, end.survivors) == ("a", "lost", 0)
        assert end.t_kill_s < AT_ONCE_S
        assert not {
            pid
            for pid in trial_processes(study)
            if processes.environment(pid)["EPIGRAM_RUN"] == "a"
        }
        executor.stop(other)
        assert end_of(executor).code == 0, "the other trial goes on"


@pytest.mark.parametrize("level", LEVELS)
def test_a_killed_reaper_is_replaced_too(level: Containment, study: str, tmp_path: Path) -> None:
    with executor_of(study, level=level) as executor:
        handle = start(executor, job(tmp_path, HOSTILE), ready=True)
        first = executor.reaper_pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: executor.reaper_pid is None, "the reaper is dead")
        os.kill(handle.lease.pid, signal.SIGKILL)
        end = end_of(executor)
        assert (end.reason, end.survivors) == ("lost", 0)
        assert not trial_processes(study)
        start(executor, job(tmp_path, ("true",), "b"))
        assert end_of(executor).code == 0
        assert executor.reaper_pid not in (None, first)


def test_a_trial_that_sits_in_c_code_is_killed_after_the_grace(study: str, tmp_path: Path) -> None:
    """Python runs no handler of its own until the call returns."""
    code = (
        "import ctypes, os, signal; signal.signal(signal.SIGTERM, lambda *_: exit(0));"
        "open(os.environ['EPIGRAM_ATTEMPT_DIR'] + '/ready', 'w').close();"
        "lock, mutex = ctypes.CDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(64);"
        "lock(mutex); lock(mutex)"  # the second waits for the first, for ever
    )
    with executor_of(study) as executor:
        handle = start(executor, job(tmp_path, python(code), grace_s=0.5), ready=True)
        executor.stop(handle)
        end = end_of(executor)
        assert (end.reason, end.signal) == ("stopped", signal.SIGKILL)
        assert 0.5 <= end.t_kill_s < 0.5 + AT_ONCE_S
        assert "did not end in time" in end.note


@pytest.mark.parametrize("level", LEVELS)
def test_a_storm_of_forks_is_ended(level: Containment, study: str, tmp_path: Path) -> None:
    """Two hundred daemons a second: a hard stop ends those that are there and those that come."""
    with executor_of(study, level=level) as executor:
        handle = start(executor, job(tmp_path, python(STORM)), ready=True)
        wait_for(lambda: len(trial_processes(study)) > 20, "the storm blows")
        executor.stop(handle, hard=True)
        end = end_of(executor)
        assert (end.reason, end.survivors) == ("stopped", 0)
        assert not trial_processes(study)


def test_a_trial_started_from_a_short_lived_thread_lives(study: str, tmp_path: Path) -> None:
    """The signal at a parent's death is one at the death of the *thread* that forked."""
    with executor_of(study) as executor:
        handles = []
        thread = threading.Thread(
            target=lambda: handles.append(start(executor, job(tmp_path, LISTENS)))
        )
        thread.start()
        thread.join()
        wait_for((tmp_path / "a/attempt-0001/ready").exists, "ready")
        assert not executor.poll(0.5)
        executor.stop(handles[0])
        assert end_of(executor).reason == "stopped"


def test_a_supervisor_that_hangs_costs_its_slot_and_nothing_else(
    study: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("epigram.runner.trials.LATE_S", 0.1)
    with executor_of(study, limits=Limits(kill_s=0.2)) as executor:
        handle = start(executor, job(tmp_path, LISTENS, grace_s=0.2), ready=True)
        os.kill(handle.lease.pid, signal.SIGSTOP)
        executor.stop(handle)
        begun = time.monotonic()
        assert not executor.poll(0.05)
        end = end_of(executor)
        assert time.monotonic() - begun < 15.0
        assert (end.reason, end.code) == ("unkillable", None)
        assert list(executor.quarantined) == [handle.slot_id]
        assert "quarantined" in end.note
        assert [slot.id for slot in executor.slots()] == ["cpu-1"]
        start(executor, job(tmp_path, ("true",), "b"))
        assert end_of(executor).code == 0


FREEZER = Path("/sys/fs/cgroup/freezer")


@pytest.mark.skipif(
    not os.access(FREEZER / "cgroup.procs", os.W_OK),
    reason="no cgroup v1 freezer to make a process that SIGKILL does not end",
)
def test_an_unkillable_process_costs_its_slot(study: str, tmp_path: Path) -> None:
    frozen = FREEZER / f"epigram-test-{os.getpid()}"
    frozen.mkdir()
    try:
        with executor_of(study, level="subreaper", limits=Limits(kill_s=0.5)) as executor:
            handle = start(executor, job(tmp_path, LISTENS), ready=True)
            for pid in trial_processes(study):
                (frozen / "cgroup.procs").write_text(str(pid))
            (frozen / "freezer.state").write_text("FROZEN")
            wait_for(lambda: "FROZEN" in (frozen / "freezer.state").read_text(), "frozen")
            executor.stop(handle, hard=True)
            end = end_of(executor)
            assert end.reason == "unkillable"
            assert end.survivors >= 1
            assert 0.5 <= end.t_kill_s < 10.0
            start(executor, job(tmp_path, ("true",), "b"))
            assert end_of(executor).code == 0, "the other slot goes on"
            (frozen / "freezer.state").write_text("THAWED")
    finally:
        (frozen / "freezer.state").write_text("THAWED")
        wait_for(lambda: not (frozen / "cgroup.procs").read_text(), "thawed and dead")
        frozen.rmdir()


@pytest.mark.slow
def test_a_cooperative_stop_saves_with_data_loaders(study: str, tmp_path: Path) -> None:
    """Its workers are not told, so the script does not die of theirs."""
    with executor_of(study) as executor:
        one = job(tmp_path, (sys.executable, "-c", LOADERS), grace_s=60.0)
        handle = executor.start(one, executor.slots()[0])
        wait_for((one.folder / "ready").exists, "ready", 300.0)
        executor.stop(handle)
        end = end_of(executor, 90.0)
        assert (end.reason, end.code) == ("stopped", 0)
        assert (one.folder / "checkpoint").exists()
        assert "killed" not in (one.folder / "stderr").read_text()


def test_leaving_the_block_ends_what_runs(study: str, tmp_path: Path) -> None:
    with executor_of(study) as executor:
        start(executor, job(tmp_path, HOSTILE), ready=True)
    assert not alive(study)


def test_the_environment_of_a_trial(study: str, tmp_path: Path) -> None:
    """It is told who it is, sees no card, and reads nothing."""
    code = (
        "import json, os, sys; print(json.dumps("
        "[dict(os.environ), sys.stdin.read(), os.getcwd(), os.getsid(0) == os.getpid()]))"
    )
    with executor_of(study) as executor:
        one = job(tmp_path, python(code))
        handle = start(executor, one)
        assert end_of(executor).ok
    env, read, folder, leads = json.loads((one.folder / "stdout").read_text())
    assert (read, folder, leads) == ("", str(one.cwd), True)
    expected = {
        "EPIGRAM_STUDY": study,
        "EPIGRAM_RUN": "a",
        "EPIGRAM_ATTEMPT": "1",
        "EPIGRAM_RUN_DIR": str(one.cwd),
        "EPIGRAM_ATTEMPT_DIR": str(one.folder),
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONFAULTHANDLER": "1",
    }
    assert expected.items() <= env.items()
    assert int(env["OMP_NUM_THREADS"]) >= 1
    assert handle.lease.folder == str(one.folder)


def test_open_files_do_not_pile_up(study: str, tmp_path: Path) -> None:
    """Neither here nor in the reaper, over many trials."""
    with executor_of(study) as executor:
        counts = []
        for number in range(12):
            start(executor, job(tmp_path, ("true",), f"r{number}"))
            assert end_of(executor).ok
            places = [Path("/proc", str(pid), "fd") for pid in (os.getpid(), executor.reaper_pid)]
            counts.append([len(list(place.iterdir())) for place in places])
        # the least of a few: one may be looked at while it is just being closed
        early, late = (
            [min(each) for each in zip(*looks, strict=True)] for looks in (counts[1:5], counts[8:])
        )
        assert late == early
