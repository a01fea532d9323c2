"""How attempts end on pretended slots: odd trials are one line each, and what is lost is begun again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.search import toy

from epigram.runner import FakeExecutor, FakeTrial, Job
from epigram.search import Command, Driver, Outcome, Trial
from epigram.search.attempts import usual_limit_s


def writes(job: Job, content: str | dict[str, Any], **more: Any) -> FakeTrial:
    """A trial that writes this as its result, and nothing else."""
    text = content if isinstance(content, str) else json.dumps(content)
    return FakeTrial(
        seconds=5.0, steps=[(1.0, lambda: (job.folder / "result.json").write_text(text))], **more
    )


ODD: dict[str, tuple[toy.Behaviour, str, str]] = {
    "garbage": (lambda job: writes(job, "Killed"), "failed", "is not JSON"),
    "no-result": (lambda job: FakeTrial(5.0), "failed", "wrote no result.json"),
    "nan": (
        lambda job: writes(job, toy.result(toy.read_config(job)) | {"accuracy": float("nan")}),
        "diverged",
        "accuracy is nan",
    ),
    "another-trials": (
        lambda job: writes(job, toy.result(toy.read_config(job)) | {"run_id": "x"}),
        "failed",
        "is of run 'x'",
    ),
    "returns-1": (lambda job: FakeTrial(5.0, code=1), "failed", "it returned 1"),
    "lost-machine": (lambda job: FakeTrial(5.0, lost=True), "failed", "lost"),
    "out-of-memory": (
        lambda job: FakeTrial(5.0, signal=9, note="killed: out of memory?"),
        "failed",
        "lost: killed: out of memory?",
    ),
    "fills-the-disk": (
        lambda job: FakeTrial(5.0, limit="wrote 9 bytes, 8 are allowed"),
        "failed",
        "more room than it may; wrote 9 bytes, 8 are allowed",
    ),
    "forks-without-end": (
        lambda job: FakeTrial(5.0, limit="had 513 processes, 512 are allowed"),
        "failed",
        "more room than it may; had 513 processes, 512 are allowed",
    ),
    "fails-elsewhere-each-time": (
        lambda job: FakeTrial(5.0, code=job.attempt, note=f"line {job.attempt}"),
        "failed",
        "it returned 8; line 8",
    ),
    "never-ends": (lambda job: FakeTrial(1e9), "failed", "longer than it may"),
    "unkillable": (lambda job: FakeTrial(1e9, unkillable=True), "failed", "would not die"),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_trial_is_one_line_and_the_others_go_on(name: str, tmp_path: Path) -> None:
    odd, kind, says = ODD[name]
    said: list[str] = []
    with toy.open_study(tmp_path) as study:
        executor = FakeExecutor(toy.only_for(2, odd), slots=2)
        Driver(
            study,
            executor,
            Command(("train",), wall_s=1000.0),
            trials=5,
            clock=lambda: executor.now,
            say=said.append,
        ).run()
        assert toy.outcomes(study) == [kind if at == 2 else "finished" for at in range(5)]
        trial = list(study.history)[2]
        assert trial.outcome is not None
        assert says in trial.outcome.note
        (line,) = [one for one in said if trial.run_id in one]
        assert "\n" not in line
        expected = {
            "returns-1": 2,
            "lost-machine": 4,
            "out-of-memory": 4,
            "fails-elsewhere-each-time": 8,
        }.get(name, 1)
        assert trial.attempt == expected
        assert len(trial.exits) == expected


@pytest.mark.parametrize("number", [0, 4])
def test_a_trial_that_takes_ten_times_as_long_as_the_others_has_failed(
    number: int, tmp_path: Path
) -> None:
    with toy.open_study(tmp_path) as study:
        executor = FakeExecutor(toy.only_for(number, lambda job: FakeTrial(1e5)), slots=2)
        command = Command(("train",), patience=10.0)
        Driver(study, executor, command, trials=5, clock=lambda: executor.now).run()
        assert toy.outcomes(study) == ["failed" if at == number else "finished" for at in range(5)]
        trial = list(study.history)[number]
        assert trial.outcome is not None
        assert "longer than it may; 600 s, 10 times what finished trials took" in trial.outcome.note
        assert trial.exits[-1]["reason"] == "timeout"
        assert 600.0 < trial.outcome.seconds < 605.0


def test_the_usual_limit_needs_three_trials_and_is_a_minute_at_least() -> None:
    def took(seconds: float) -> Trial:
        return Trial(0, "a", {}, 0, outcome=Outcome("finished", 0.9, 1.0, seconds=seconds))

    assert usual_limit_s([took(20.0), took(20.0)], times=10.0) is None
    assert usual_limit_s([took(20.0), took(20.0), took(0.0)], times=10.0) is None
    assert usual_limit_s([took(20.0), took(30.0), took(9e9)], times=10.0) == 300.0
    assert usual_limit_s([took(0.1)] * 3, times=10.0) == 60.0


def test_a_trial_killed_once_is_begun_again_and_its_curve_goes_on(tmp_path: Path) -> None:
    def odd(job: Job) -> FakeTrial:
        whole = toy.trial(job)
        if job.attempt == 1:
            return FakeTrial(20.0, signal=9, steps=[s for s in whole.steps if s[0] < 20.0])
        return FakeTrial(60.0, steps=whole.steps[5:])

    with toy.open_study(tmp_path) as study:
        toy.drive(study, 3, behaviour=toy.only_for(1, odd))
        trial = list(study.history)[1]
        assert toy.outcomes(study) == ["finished"] * 3
        assert (trial.attempt, trial.exits[0]["signal"]) == (2, 9)
        assert [p.step for p in trial.curve()] == list(range(1, toy.STEPS + 1))


def test_a_lost_node_is_another_attempt_elsewhere(tmp_path: Path) -> None:
    odd: toy.Behaviour = lambda job: (  # noqa: E731
        FakeTrial(5.0, lost=True) if job.attempt == 1 else toy.trial(job)
    )
    with toy.open_study(tmp_path) as study:
        toy.drive(study, 3, behaviour=toy.only_for(0, odd))
        assert toy.outcomes(study) == ["finished"] * 3
        assert next(iter(study.history)).attempt == 2
