"""The executor without processes keeps the promises that do not need any."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from epigram.errors import ConfigError
from epigram.runner import FakeExecutor, FakeTrial, Job


def job(run_id: str = "a", attempt: int = 1, wall_s: float | None = None) -> Job:
    return Job(run_id, attempt, ("train",), Path(), {}, grace_s=5.0, wall_s=wall_s)


def test_time_goes_to_the_next_end_or_by_the_timeout() -> None:
    executor = FakeExecutor(lambda job: FakeTrial({"a": 60.0, "b": 30.0}[job.run_id]), slots=2)
    for name in "ab":
        executor.start(job(name), executor.slots()[0])
    assert executor.slots() == []
    assert executor.poll(10.0) == []
    assert executor.now == 10.0
    assert [one.run_id for one in executor.poll(100.0)] == ["b"]
    assert [one.run_id for one in executor.poll(100.0)] == ["a"]
    assert executor.now == 60.0
    assert len(executor.slots()) == 2


def test_steps_happen_in_the_order_of_time_and_not_after_the_end() -> None:
    seen: list[str] = []
    executor = FakeExecutor(
        lambda job: FakeTrial(
            math.inf,
            steps=[
                (at, lambda at=at: seen.append(f"{job.run_id}{at}"))  # type: ignore[misc]
                for at in ({"a": (1, 3, 9), "b": (2, 4)}[job.run_id])
            ],
        )
    )
    handles = [executor.start(job(name), executor.slots()[0]) for name in "ab"]
    executor.poll(3.5)
    executor.stop(handles[0])
    executor.poll(0.0)
    executor.poll(10.0)
    assert seen == ["a1", "b2", "a3", "b4"]


@pytest.mark.parametrize(
    ("stop_seconds", "hard", "after", "code", "signal"),
    [(0.5, False, 0.5, 0, None), (None, False, 5.0, None, 9), (0.5, True, 0.0, None, 9)],
)
def test_a_stop_is_cooperative_then_hard(
    stop_seconds: float | None, hard: bool, after: float, code: int | None, signal: int | None
) -> None:
    executor = FakeExecutor(lambda job: FakeTrial(100.0, stop_seconds=stop_seconds))
    handle = executor.start(job(), executor.slots()[0])
    executor.poll(10.0)
    executor.stop(handle, hard)
    executor.stop(handle)
    (end,) = executor.poll(100.0)
    assert (end.reason, end.code, end.signal) == ("stopped", code, signal)
    assert executor.now == pytest.approx(10.0 + after)
    assert executor.poll(100.0) == []


def test_a_trial_beyond_its_time_is_a_timeout() -> None:
    executor = FakeExecutor(lambda job: FakeTrial(math.inf, stop_seconds=None))
    executor.start(job(wall_s=20.0), executor.slots()[0])
    (end,) = executor.poll(100.0)
    assert (end.reason, end.signal, executor.now) == ("timeout", 9, 25.0)


def test_what_would_not_die_costs_its_slot() -> None:
    executor = FakeExecutor(lambda job: FakeTrial(1.0, unkillable=True), slots=2)
    executor.start(job(), executor.slots()[0])
    (end,) = executor.poll(10.0)
    assert (end.reason, end.survivors) == ("unkillable", 1)
    assert [slot.id for slot in executor.slots()] == ["fake-1"]
    assert "would not die" in executor.quarantined["fake-0"]


def test_an_attempt_is_started_once_and_on_a_free_slot() -> None:
    executor = FakeExecutor(lambda job: FakeTrial(1.0), slots=2)
    slot, other = executor.slots()
    executor.start(job(), slot)
    with pytest.raises(ConfigError, match="not free"):
        executor.start(job(attempt=2), slot)
    with pytest.raises(ConfigError, match="was started before"):
        executor.start(job(), other)


@pytest.mark.parametrize(
    "wrong",
    [
        {"run_id": "a/b"},
        {"attempt": 0},
        {"argv": ()},
        {"grace_s": -1.0},
        {"wall_s": 0.0},
    ],
    ids=["run_id", "attempt", "argv", "grace", "wall"],
)
def test_a_job_that_cannot_be_meant_is_refused(wrong: dict[str, object]) -> None:
    right = {
        "run_id": "a", "attempt": 1, "argv": ("train",), "cwd": Path(), "env": {},
        "grace_s": 1.0, "wall_s": None,
    }  # fmt: skip
    with pytest.raises(ConfigError, match=f"Job.{next(iter(wrong))}"):
        Job(**(right | wrong))  # type: ignore[arg-type]
