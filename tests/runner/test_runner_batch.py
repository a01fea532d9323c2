"""Trials as batch jobs, as far as submitit's own local scheduler allows."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contracts.executor import ExecutorContract
from tests.runner.hostile import HOSTILE, job, trial_processes, wait_for

from epigram.errors import ExecutorError
from epigram.runner import Limits
from epigram.runner.batch import SlurmExecutor
from epigram.runner.protocol import Executor, Lease

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("submitit") is None,
        reason="submitit is not installed (extra slurm)",
    ),
]


def batch_executor(study: str, folder: Path, **settings: float) -> SlurmExecutor:
    return SlurmExecutor(
        study, folder=folder, count=2, cluster="local", limits=Limits(kill_s=10.0), **settings
    )


class TestSlurmExecutor(ExecutorContract):
    patience_s = 120.0

    @pytest.fixture
    def executor(self, study: str, tmp_path: Path) -> Iterator[Executor]:
        with batch_executor(study, tmp_path / "batch") as executor:
            yield executor


def test_a_batch_job_whose_driver_is_silent_ends_its_trial(study: str, tmp_path: Path) -> None:
    """The driver writes no sign of life here because it does not poll."""
    with batch_executor(study, tmp_path / "batch", lost_after_s=1.0) as executor:
        one = job(tmp_path, HOSTILE)
        executor.start(one, executor.slots()[0])
        wait_for((one.folder / "ready").exists, "ready", 120.0)
        wait_for(lambda: not trial_processes(study), "the trial is ended", 120.0)
        deadline = time.monotonic() + 60.0
        while not (ends := executor.poll(1.0)):
            assert time.monotonic() < deadline
        assert ends[0].reason == "driver-lost"
        assert len(executor.slots()) == 2


def test_what_a_dead_driver_left_has_ended_when_the_next_one_begins(
    study: str, tmp_path: Path
) -> None:
    """The next driver's signs of life go to the same file: they must not keep the old trial alive."""
    with (
        batch_executor(study, tmp_path / "batch") as dead,
        batch_executor(study, tmp_path / "batch") as following,
    ):
        one = job(tmp_path, HOSTILE)
        handle = dead.start(one, dead.slots()[0])
        wait_for((one.folder / "ready").exists, "ready", 120.0)
        (end,) = following.recover([handle.lease])
        assert not trial_processes(study)
        assert (end.reason, end.note) == ("driver-lost", "the driver is dead")
        again = following.recover([handle.lease])
        assert [(end.run_id, end.survivors) for end in again] == [("a", 0)]


def test_a_job_that_never_says_anything_is_waited_for_as_long_as_it_may_take(
    study: str, tmp_path: Path
) -> None:
    silent = Lease("a", 1, "batch-0", 0, 0, "", host=f"batch job {os.getpid()}", folder="")
    limits = Limits(kill_s=0.2)
    with SlurmExecutor(
        study, folder=tmp_path, count=1, cluster="local", limits=limits, lost_after_s=0.3
    ) as executor:
        begun = time.monotonic()
        (end,) = executor.recover([silent])
        assert 0.5 <= time.monotonic() - begun < 5.0
    assert end.reason == "driver-lost"
    assert end.note.endswith("has not ended")


def test_a_batch_job_that_fails_is_lost_and_says_why(study: str, tmp_path: Path) -> None:
    with batch_executor(study, tmp_path / "batch") as executor:
        one = job(tmp_path, ("true",))
        one.folder.mkdir(parents=True)
        (one.folder / "stdout").mkdir()  # the job cannot write its logs
        executor.start(one, executor.slots()[0])
        deadline = time.monotonic() + 120.0
        while not (ends := executor.poll(1.0)):
            assert time.monotonic() < deadline
        assert ends[0].reason == "lost"
        assert "nothing was started" in ends[0].note


def test_without_the_package_the_remedy_is_named(
    study: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ExecutorError, match=r"epigram\[slurm\]"):
        batch_executor(study, tmp_path)
