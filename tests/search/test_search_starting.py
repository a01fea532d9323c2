"""Slots that go, machines that do not answer, fences that are held: whether a trial can be started."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.search import toy

from epigram.errors import ConfigError, ExecutorError, HeldError, InterruptedRunError
from epigram.runner import FakeExecutor, FakeTrial, Handle, Job, Slot
from epigram.search import Command, Driver, Study


def test_without_a_slot_it_ends_and_says_why(tmp_path: Path) -> None:
    with toy.open_study(tmp_path) as study:
        executor = FakeExecutor(lambda job: FakeTrial(1e9, unkillable=True), slots=1)
        driver = Driver(study, executor, Command(("x",), wall_s=10.0), trials=3)
        with pytest.raises(InterruptedRunError, match=r"no slot is left.*would not die"):
            driver.run()


class Failing:
    """An executor whose start raises ``error`` so many times; the slot is gone afterwards."""

    def __init__(self, slots: int, error: Exception, *, times: int) -> None:
        self.whole = FakeExecutor(toy.trial, slots=slots)
        self.error, self.times = error, times

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)

    def start(self, job: Job, slot: Slot) -> Handle:
        if self.times == 0:
            return self.whole.start(job, slot)
        self.times -= 1
        self.whole.quarantined[slot.id] = str(self.error)
        raise self.error


def drive_failing(study: Study, executor: Failing, **more: Any) -> None:
    Driver(study, executor, Command(("x",)), clock=lambda: executor.now, **more).run()


def test_slots_that_go_at_the_start_conclude_nothing(tmp_path: Path) -> None:
    with toy.open_study(tmp_path, confirm=1) as study:
        executor = Failing(2, ConfigError("its card does not answer"), times=2)
        with pytest.raises(InterruptedRunError, match=r"no slot is left.*does not answer"):
            drive_failing(study, executor, trials=4)
        assert study.history.confirmed is None
    with toy.open_study(tmp_path, confirm=1) as study:
        toy.drive(study, 4)
        assert toy.outcomes(study) == ["finished"] * 4
        assert study.history.confirmed is not None


def test_a_machine_lost_at_the_start_is_a_lost_attempt(tmp_path: Path) -> None:
    said: list[str] = []
    with toy.open_study(tmp_path) as study:
        executor = Failing(2, ExecutorError("node7: no answer"), times=1)
        drive_failing(study, executor, trials=4, say=said.append)
        assert toy.outcomes(study) == ["finished"] * 4
        first = next(iter(study.history))
        assert (first.attempt, first.exits[0]["reason"]) == (2, "lost")
        assert first.exits[0]["note"] == "node7: no answer"
    assert any("could not start: node7" in line for line in said)


def test_a_trial_whose_fence_is_held_is_put_off(tmp_path: Path) -> None:
    class Held(Failing):
        def start(self, job: Job, slot: Slot) -> Handle:
            if job.run_id == first.run_id and self.times:
                self.times -= 1
                held_at.append(self.whole.now)
                raise self.error
            return self.whole.start(job, slot)

    held_at: list[float] = []
    with toy.open_study(tmp_path) as study:
        first = study.propose()
        executor = Held(1, HeldError("held by another attempt"), times=3)
        drive_failing(study, executor, trials=3)
        assert toy.outcomes(study) == ["finished"] * 3
        assert first.attempt == 4
        assert all(later > sooner for sooner, later in pairwise(held_at))


def test_a_trial_whose_fence_is_never_let_go_of_is_given_up(tmp_path: Path) -> None:
    class Held(Failing):
        def start(self, job: Job, slot: Slot) -> Handle:
            raise self.error

    with toy.open_study(tmp_path) as study:
        executor = Held(1, HeldError("held by another attempt"), times=1)
        drive_failing(study, executor, trials=1)
        assert toy.outcomes(study) == ["failed"]
        assert 1.0 + 2.0 + 4.0 <= executor.now < 10.0


def test_an_executor_that_cannot_start_what_it_offers_ends_the_search(tmp_path: Path) -> None:
    executor = Failing(1, ExecutorError("no process can be started"), times=1)
    executor.start = lambda job, slot: (_ for _ in ()).throw(executor.error)  # type: ignore[method-assign]
    with toy.open_study(tmp_path) as study, pytest.raises(ExecutorError, match="no process"):
        drive_failing(study, executor, trials=2)
