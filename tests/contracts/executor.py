"""What every executor must do: inherit, say how one is made, and the tests come along.

Trials are named by what they do, so that an executor without processes can pretend them.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from epigram.errors import ConfigError
from epigram.runner.protocol import Executor, Exit, Handle, Job

READY = 'touch "$EPIGRAM_ATTEMPT_DIR/ready"; '
COMMANDS: dict[str, tuple[str, ...]] = {
    "ends": ("sh", "-c", "exit 0"),
    "fails": ("sh", "-c", "echo 'something went wrong' >&2; exit 3"),
    "dies": ("sh", "-c", "kill -9 $$"),
    "listens": ("sh", "-c", f"trap 'exit 0' TERM; {READY} while :; do sleep 0.05; done"),
    "deaf": ("sh", "-c", f"trap '' TERM; {READY} sleep 1000"),
}


class ExecutorContract:
    """Subclass with a fixture ``executor`` that has two free slots."""

    patience_s: float = 30.0
    """How long an ending may take to be reported on a busy machine."""

    @pytest.fixture
    def executor(self) -> Iterator[Executor]:
        raise NotImplementedError

    @pytest.fixture
    def runs(self, tmp_path: Path) -> Path:
        return tmp_path

    def seconds(self, executor: Executor) -> float:
        """The executor's clock."""
        return time.monotonic()

    def wait_until_ready(self, executor: Executor, job: Job) -> None:
        deadline = time.monotonic() + self.patience_s
        while not (job.folder / "ready").exists():
            assert time.monotonic() < deadline, f"{job.argv} did not become ready"
            time.sleep(0.01)

    def job(
        self,
        runs: Path,
        kind: str,
        run_id: str = "a",
        attempt: int = 1,
        grace_s: float = 20.0,
        wall_s: float | None = None,
    ) -> Job:
        return Job(
            run_id, attempt, COMMANDS[kind], runs / run_id, {"KIND": kind}, grace_s, wall_s
        )  # fmt: skip

    def start(self, executor: Executor, job: Job) -> Handle:
        return executor.start(job, executor.slots()[0])

    def ends(self, executor: Executor, count: int = 1) -> list[Exit]:
        """The next ``count`` exits, and the assurance that there are no more."""
        found: list[Exit] = []
        deadline = self.seconds(executor) + self.patience_s
        while len(found) < count and self.seconds(executor) < deadline:
            found += executor.poll(1.0)
        assert len(found) == count, found
        assert not executor.poll(0.05)
        return found

    def test_it_says_how_processes_are_kept_together(self, executor: Executor) -> None:
        assert executor.containment
        assert not executor.quarantined

    @pytest.mark.parametrize(
        ("kind", "code", "signal"), [("ends", 0, None), ("fails", 3, None), ("dies", None, 9)]
    )
    def test_an_ending_is_reported_once(
        self, executor: Executor, runs: Path, kind: str, code: int | None, signal: int | None
    ) -> None:
        self.start(executor, self.job(runs, kind))
        (end,) = self.ends(executor)
        assert (end.run_id, end.attempt, end.reason) == ("a", 1, "exit")
        assert (end.code, end.signal, end.survivors) == (code, signal, 0)
        assert end.ok == (kind == "ends")

    def test_a_slot_is_taken_while_a_trial_runs_and_free_afterwards(
        self, executor: Executor, runs: Path
    ) -> None:
        before = [slot.id for slot in executor.slots()]
        assert len(set(before)) == 2
        handle = self.start(executor, self.job(runs, "listens"))
        assert handle.slot_id == before[0]
        assert [slot.id for slot in executor.slots()] == before[1:]
        executor.stop(handle, hard=True)
        self.ends(executor)
        assert [slot.id for slot in executor.slots()] == before

    def test_trials_run_side_by_side(self, executor: Executor, runs: Path) -> None:
        jobs = [self.job(runs, "listens", name) for name in "ab"]
        handles = [self.start(executor, job) for job in jobs]
        assert not executor.slots()
        for job in jobs:
            self.wait_until_ready(executor, job)
        for handle in handles:
            executor.stop(handle)
        ends = self.ends(executor, 2)
        assert {end.run_id for end in ends} == {"a", "b"}
        assert {(end.reason, end.code) for end in ends} == {("stopped", 0)}, ends

    def test_a_stop_asks_and_may_be_repeated(self, executor: Executor, runs: Path) -> None:
        job = self.job(runs, "listens")
        handle = self.start(executor, job)
        self.wait_until_ready(executor, job)
        executor.stop(handle)
        executor.stop(handle)
        (end,) = self.ends(executor)
        assert (end.reason, end.code, end.signal) == ("stopped", 0, None)
        executor.stop(handle)
        executor.stop(handle, hard=True)
        assert not executor.poll(0.1)

    def test_who_does_not_listen_is_killed_after_the_grace(
        self, executor: Executor, runs: Path
    ) -> None:
        job = self.job(runs, "deaf", grace_s=0.5)
        handle = self.start(executor, job)
        self.wait_until_ready(executor, job)
        begun = self.seconds(executor)
        executor.stop(handle)
        (end,) = self.ends(executor)
        assert (end.reason, end.code, end.signal) == ("stopped", None, 9)
        assert end.t_kill_s >= 0.5
        assert self.seconds(executor) - begun >= 0.5

    def test_a_hard_stop_does_not_ask(self, executor: Executor, runs: Path) -> None:
        job = self.job(runs, "deaf", grace_s=1000.0)
        handle = self.start(executor, job)
        self.wait_until_ready(executor, job)
        executor.stop(handle)
        executor.stop(handle, hard=True)
        (end,) = self.ends(executor)
        assert (end.reason, end.code, end.signal) == ("stopped", None, 9)

    @pytest.mark.parametrize(("kind", "code", "signal"), [("listens", 0, None), ("deaf", None, 9)])
    def test_a_trial_beyond_its_time_is_ended(
        self, executor: Executor, runs: Path, kind: str, code: int | None, signal: int | None
    ) -> None:
        grace_s = 0.3 if kind == "deaf" else 20.0
        self.start(executor, self.job(runs, kind, grace_s=grace_s, wall_s=1.0))
        (end,) = self.ends(executor)
        assert (end.reason, end.code, end.signal) == ("timeout", code, signal)

    @pytest.mark.parametrize("timeout_s", [0.0, 0.3])
    def test_polling_is_bounded(self, executor: Executor, runs: Path, timeout_s: float) -> None:
        handle = self.start(executor, self.job(runs, "listens"))
        begun = self.seconds(executor)
        assert not executor.poll(timeout_s)
        assert timeout_s <= self.seconds(executor) - begun < timeout_s + 5.0
        executor.stop(handle, hard=True)
        self.ends(executor)

    def test_a_slot_holds_one_trial(self, executor: Executor, runs: Path) -> None:
        slot = executor.slots()[0]
        handle = executor.start(self.job(runs, "listens"), slot)
        with pytest.raises(ConfigError, match="not free"):
            executor.start(self.job(runs, "ends", "b"), slot)
        executor.stop(handle, hard=True)
        self.ends(executor)

    def test_an_attempt_begins_once(self, executor: Executor, runs: Path) -> None:
        self.start(executor, self.job(runs, "ends"))
        self.ends(executor)
        with pytest.raises(ConfigError, match="attempt 1"):
            self.start(executor, self.job(runs, "ends"))
        self.start(executor, self.job(runs, "ends", attempt=2))
        (end,) = self.ends(executor)
        assert (end.attempt, end.code) == (2, 0)

    def test_every_lease_of_a_dead_driver_gets_one_exit(
        self, executor: Executor, runs: Path
    ) -> None:
        handle = self.start(executor, self.job(runs, "ends"))
        self.ends(executor)
        lost = [
            dataclasses.replace(handle.lease, run_id=name, boot_id="before", folder="")
            for name in "xyx"
        ]
        ends: Sequence[Exit] = executor.recover(lost)
        assert [(end.run_id, end.reason, end.survivors) for end in ends] == [
            ("x", "driver-lost", 0),
            ("y", "driver-lost", 0),
        ]
        assert len(executor.slots()) == 2

    def test_closing_may_be_repeated(self, executor: Executor, runs: Path) -> None:
        self.start(executor, self.job(runs, "listens"))
        executor.close()
        executor.close()
