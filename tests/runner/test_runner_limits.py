"""Trials that take too much are ended, with one clear line, and the others go on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from tests.runner.hostile import (
    LEVELS,
    LISTENS,
    end_of,
    executor_of,
    job,
    python,
    start,
    trial_processes,
)

from epigram.errors import ConfigError, StorageError
from epigram.runner import Limits
from epigram.runner.order import Containment

FORKS = """
import os, time
for _ in range(150):  # without end is more than a busy machine wants to see
    os.fork() or time.sleep(1000)
    time.sleep(0.01)
time.sleep(1000)
"""
WRITES = "import os\nwhile True:\n    open(os.urandom(4).hex(), 'wb').write(bytes(1 << 20))"


@pytest.mark.parametrize("level", LEVELS)
def test_forks_without_end_are_bounded(level: Containment, study: str, tmp_path: Path) -> None:
    limits = Limits(max_processes=30, watch_s=0.1)
    with executor_of(study, level=level, limits=limits) as executor:
        start(executor, job(tmp_path, python(FORKS)))
        other = start(executor, job(tmp_path, LISTENS, "b"), ready=True)
        end = end_of(executor)
        assert (end.run_id, end.reason, end.survivors) == ("a", "limit", 0)
        assert "30 are allowed" in end.note
        executor.stop(other)
        assert end_of(executor).code == 0
        assert not trial_processes(study)


def test_a_disk_is_not_filled(study: str, tmp_path: Path) -> None:
    limits = Limits(max_bytes=20 << 20, watch_s=0.1)
    with executor_of(study, limits=limits) as executor:
        start(executor, job(tmp_path, python(WRITES)))
        end = end_of(executor)
        assert end.reason == "limit"
        assert f"{20 << 20} are allowed" in end.note


def test_nor_by_one_file_between_two_looks(study: str, tmp_path: Path) -> None:
    code = "f = open('big', 'wb')\nwhile True:\n    f.write(bytes(1 << 20))"
    with executor_of(study, limits=Limits(max_bytes=20 << 20, watch_s=1000.0)) as executor:
        start(executor, job(tmp_path, python(code)))
        end = end_of(executor)
        assert (end.reason, end.code) == ("exit", 1)
        assert "File too large" in end.note
        start(executor, job(tmp_path, ("sh", "-c", "exec cat /dev/zero > big"), "b"))
        end = end_of(executor)
        assert (end.reason, end.signal) == ("exit", signal.SIGXFSZ)
        assert "larger than allowed" in end.note


def test_garbage_on_both_outputs_is_one_clean_line(study: str, tmp_path: Path) -> None:
    code = (
        "import os, sys\nfor _ in range(2000):\n"
        "    os.write(1, os.urandom(500)); os.write(2, os.urandom(500))\n"
        "os.write(2, b'\\n\\x1b[31mValueError: nothing fits\\x1b[0m\\n'); sys.exit(3)"
    )
    with executor_of(study) as executor:
        one = job(tmp_path, python(code))
        start(executor, one)
        end = end_of(executor)
    assert end.code == 3
    assert end.note == "returned 3; [31mValueError: nothing fits[0m"
    assert (one.folder / "stdout").stat().st_size == 1_000_000


def test_a_trial_that_never_ends_is_ended(study: str, tmp_path: Path) -> None:
    with executor_of(study) as executor:
        start(executor, job(tmp_path, ("sleep", "1000"), wall_s=0.3))
        end = end_of(executor)
    assert (end.reason, end.signal) == ("timeout", signal.SIGTERM)
    assert "longer than 0.3 s" in end.note


def test_a_program_that_is_not_there(study: str, tmp_path: Path) -> None:
    with executor_of(study) as executor:
        start(executor, job(tmp_path, ("no-such-program", "x")))
        end = end_of(executor)
    assert (end.reason, end.code) == ("exit", 127)
    assert end.note == "no-such-program could not be started: No such file or directory"


def test_a_folder_that_cannot_be_made(study: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file")
    with executor_of(study) as executor:
        with pytest.raises(StorageError, match="nothing was started"):
            start(executor, job(tmp_path, ("true",)))
        start(executor, job(tmp_path, ("true",), "b"))
        assert end_of(executor).ok


def test_a_large_environment_and_odd_bytes_arrive(
    study: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environb, b"ODD", b"\xff\xfe=\n")
    for number in range(20):
        monkeypatch.setenv(f"LARGE_{number}", "x" * 100_000)
    code = "import os; print(os.environb[b'ODD'], len(os.environ['LARGE_19']))"
    with executor_of(study) as executor:
        one = job(tmp_path, python(code))
        start(executor, one)
        assert end_of(executor).ok
    assert (one.folder / "stdout").read_text().strip() == r"b'\xff\xfe=\n' 100000"


@pytest.mark.parametrize("field", ["max_processes", "watch_s", "kill_s"])
def test_limits_that_cannot_be_meant(field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        Limits(**{field: 0})  # type: ignore[arg-type]
