"""The driver on pretended slots: curves, stops, retries, kills, and a thousand small trials."""

from __future__ import annotations

import json
import os
import signal
import time
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.search import toy

from epigram.errors import (
    ConfigError,
    ExecutorError,
    HeldError,
    InterruptedRunError,
    StorageError,
)
from epigram.runner import FakeExecutor, FakeTrial, Handle, Job, Slot
from epigram.search import Command, Driver, Outcome, Point, StopRule, Study, Trial, ledger
from epigram.search.attempts import usual_limit_s

Behaviour = Callable[[Job], FakeTrial]


def writes(job: Job, content: str | dict[str, Any], **more: Any) -> FakeTrial:
    """A trial that writes this as its result, and nothing else."""
    text = content if isinstance(content, str) else json.dumps(content)
    return FakeTrial(
        seconds=5.0, steps=[(1.0, lambda: (job.folder / "result.json").write_text(text))], **more
    )


def only_for(number: int, odd: Behaviour) -> Behaviour:
    """Trial ``number`` behaves oddly, the others as they should."""
    order: list[str] = []

    def behave(job: Job) -> FakeTrial:
        if job.run_id not in order:
            order.append(job.run_id)
        return odd(job) if order.index(job.run_id) == number else toy.trial(job)

    return behave


def outcomes(study: Study) -> list[str]:
    return [t.outcome.kind if t.outcome else "open" for t in study.history.search()]


def test_trials_run_in_parallel_and_are_told(tmp_path: Path) -> None:
    with toy.open_study(tmp_path) as study:
        executor = toy.drive(study, 6, slots=3)
        assert outcomes(study) == ["finished"] * 6
        assert executor.now == pytest.approx(120.0)
        assert {job.argv[1] for job in executor.started} == {
            str(job.folder) for job in executor.started
        }
        trial = next(iter(study.history))
        assert [p.step for p in trial.curve()] == list(range(1, toy.STEPS + 1))
        assert trial.steps == toy.STEPS
        assert trial.outcome is not None
        assert trial.outcome.seconds == pytest.approx(60.0)


ODD: dict[str, tuple[Behaviour, str, str]] = {
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
        executor = FakeExecutor(only_for(2, odd), slots=2)
        Driver(
            study,
            executor,
            Command(("train",), wall_s=1000.0),
            trials=5,
            clock=lambda: executor.now,
            say=said.append,
        ).run()
        assert outcomes(study) == [kind if at == 2 else "finished" for at in range(5)]
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
        executor = FakeExecutor(only_for(number, lambda job: FakeTrial(1e5)), slots=2)
        command = Command(("train",), patience=10.0)
        Driver(study, executor, command, trials=5, clock=lambda: executor.now).run()
        assert outcomes(study) == ["failed" if at == number else "finished" for at in range(5)]
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
        toy.drive(study, 3, behaviour=only_for(1, odd))
        trial = list(study.history)[1]
        assert outcomes(study) == ["finished"] * 3
        assert (trial.attempt, trial.exits[0]["signal"]) == (2, 9)
        assert [p.step for p in trial.curve()] == list(range(1, toy.STEPS + 1))


def test_a_lost_node_is_another_attempt_elsewhere(tmp_path: Path) -> None:
    odd: Behaviour = lambda job: (  # noqa: E731
        FakeTrial(5.0, lost=True) if job.attempt == 1 else toy.trial(job)
    )
    with toy.open_study(tmp_path) as study:
        toy.drive(study, 3, behaviour=only_for(0, odd))
        assert outcomes(study) == ["finished"] * 3
        assert next(iter(study.history)).attempt == 2


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
        assert outcomes(study) == ["finished"] * 4
        assert study.history.confirmed is not None


def test_a_machine_lost_at_the_start_is_a_lost_attempt(tmp_path: Path) -> None:
    said: list[str] = []
    with toy.open_study(tmp_path) as study:
        executor = Failing(2, ExecutorError("node7: no answer"), times=1)
        drive_failing(study, executor, trials=4, say=said.append)
        assert outcomes(study) == ["finished"] * 4
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
        assert outcomes(study) == ["finished"] * 3
        assert first.attempt == 4
        assert all(later > sooner for sooner, later in pairwise(held_at))


def test_a_trial_whose_fence_is_never_let_go_of_is_given_up(tmp_path: Path) -> None:
    class Held(Failing):
        def start(self, job: Job, slot: Slot) -> Handle:
            raise self.error

    with toy.open_study(tmp_path) as study:
        executor = Held(1, HeldError("held by another attempt"), times=1)
        drive_failing(study, executor, trials=1)
        assert outcomes(study) == ["failed"]
        assert 1.0 + 2.0 + 4.0 <= executor.now < 10.0


def test_an_executor_that_cannot_start_what_it_offers_ends_the_search(tmp_path: Path) -> None:
    executor = Failing(1, ExecutorError("no process can be started"), times=1)
    executor.start = lambda job, slot: (_ for _ in ()).throw(executor.error)  # type: ignore[method-assign]
    with toy.open_study(tmp_path) as study, pytest.raises(ExecutorError, match="no process"):
        drive_failing(study, executor, trials=2)


def test_stopped_by_its_forecast_it_is_told_complete_and_imputed(tmp_path: Path) -> None:
    with toy.open_study(
        tmp_path,
        stopping="forecast",
        forecasts=True,
        rule=StopRule(threshold=0.05, audit_share=0.2),
        looks=(0.5,),
    ) as study:
        toy.drive(study, 40)
        trials = study.history.search()
        stopped = [t for t in trials if t.outcome and t.outcome.kind == "stopped"]
        assert stopped
        for trial in stopped:
            assert trial.outcome is not None
            assert trial.outcome.imputed
            assert not trial.audit
            assert trial.forecasts[-1]["seq"] < trial.told_seq
            assert trial.outcome.metric is not None
        best = study.best()
        assert best is not None
        assert best.finished
        assert not {t.run_id for t in stopped} & {t.run_id for t in study.feasible()}
        audited = [t for t in trials if t.audit]
        assert audited
        assert all(t.finished for t in audited)
    events = ledger.read(tmp_path)
    told = [event.data for event in events if event.type == "told"]
    assert all(one["imputed"] is (one["kind"] != "finished") for one in told)
    assert "PRUNED" not in (tmp_path / ledger.LEDGER).read_text().upper()


def test_hyperband_stops_on_the_raw_error(tmp_path: Path) -> None:
    with toy.open_study(tmp_path, stopping="hyperband") as study:
        toy.drive(study, 12)
        stopped = [t for t in study.history if t.outcome and t.outcome.kind == "stopped"]
        assert len(stopped) >= 4
        assert all(t.stop_reason == "among the worse of its rung" for t in stopped)


def test_an_interrupt_stops_in_order_and_the_same_command_goes_on(tmp_path: Path) -> None:
    with toy.open_study(tmp_path / "whole") as study:
        toy.drive(study, 6, slots=1)
        expected = [dict(t.values) for t in study.history]

    def interrupts(job: Job) -> FakeTrial:
        trial = toy.trial(job)
        if len(jobs) == 3:
            now = [(10.0, lambda: os.kill(os.getpid(), signal.SIGTERM))]
            return FakeTrial(60.0, steps=[*now, *trial.steps], code=130)
        return trial

    jobs: list[Job] = []

    def behave(job: Job) -> FakeTrial:
        jobs.append(job)
        return interrupts(job)

    before = signal.getsignal(signal.SIGTERM)
    with toy.open_study(tmp_path / "cut") as study:
        with pytest.raises(InterruptedRunError, match=r"stopped in order \(SIGTERM\) after 2 of 6"):
            toy.drive(study, 6, behaviour=behave, slots=1)
        assert outcomes(study) == ["finished", "finished", "open"]
    assert signal.getsignal(signal.SIGTERM) == before
    with toy.open_study(tmp_path / "cut") as study:
        toy.drive(study, 6, slots=1)
        assert outcomes(study) == ["finished"] * 6
        assert [dict(t.values) for t in study.history] == expected
        assert list(study.history)[2].attempt == 2


def test_the_time_that_is_up_stops_it_in_order(tmp_path: Path) -> None:
    with toy.open_study(tmp_path) as study:
        with pytest.raises(InterruptedRunError, match="the time was up"):
            toy.drive(study, 6, slots=1, max_seconds=100.0)
        assert outcomes(study)[0] == "finished"
        assert len(study) < 6


def test_a_full_disk_ends_it_cleanly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from epigram.search import lines

    with toy.open_study(tmp_path) as study:
        real, count = os.write, 0

        def full(descriptor: int, data: bytes) -> int:
            nonlocal count
            count += data.startswith(b'{"crc"')
            if count > 40:
                raise OSError(28, "No space left on device")
            return real(descriptor, data)

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(StorageError, match="No space left"):
            toy.drive(study, 6)
        monkeypatch.undo()
    path = tmp_path / ledger.LEDGER
    assert (
        len(lines.decode_all(path.read_bytes(), where="x")[0]) == 41
    )  # and the one that opened it
    with toy.open_study(tmp_path) as study:
        toy.drive(study, 6)
        assert outcomes(study) == ["finished"] * 6


def test_a_result_written_before_the_driver_died_is_not_lost(tmp_path: Path) -> None:
    with toy.open_study(tmp_path) as study:
        asked = study.ask()
        (asked.folder / "result.json").write_text(
            json.dumps(toy.result(dict(asked.config) | {"attempt": 1}))
        )
    with toy.open_study(tmp_path) as study:
        executor = toy.drive(study, 1)
        assert outcomes(study) == ["finished"]
        assert executor.started == []


def test_a_trial_that_was_stopped_before_the_driver_died_is_told_as_stopped(
    tmp_path: Path,
) -> None:
    with toy.open_study(tmp_path) as study:
        asked = study.ask()
        trial = study.history.trials[asked.run_id]
        study.report_point(trial, Point(1, 0.5, 900.0))
        study.record("stop", {"run_id": asked.run_id, "why": "hopeless", "at": study.now()})
    with toy.open_study(tmp_path) as study:
        executor = toy.drive(study, 2)
        assert outcomes(study) == ["stopped", "finished"]
        assert asked.run_id not in {job.run_id for job in executor.started}
        outcome = study.history.trials[asked.run_id].outcome
        assert outcome is not None
        assert (outcome.metric, outcome.size, outcome.note) == (0.5, 900.0, "hopeless")


def test_garbage_in_a_curve_is_said_once(tmp_path: Path) -> None:
    def odd(job: Job) -> FakeTrial:
        trial = toy.trial(job)
        shout = [(1.0, lambda: (job.folder / "metrics.jsonl").write_text("Epoch 1\nEpoch 2\n"))]
        return FakeTrial(60.0, steps=[*shout, *trial.steps])

    said: list[str] = []
    with toy.open_study(tmp_path) as study:
        toy.drive(study, 3, behaviour=only_for(1, odd), say=said.append)
        assert outcomes(study) == ["finished"] * 3
        (line,) = said
        assert "no step of a curve: 'Epoch 1'" in line


def test_garbage_in_the_curve_of_a_trial_that_has_ended_is_said_too(tmp_path: Path) -> None:
    def odd(job: Job) -> FakeTrial:
        shout = (0.01, lambda: (job.folder / "metrics.jsonl").write_text("Epoch 1\n"))
        return FakeTrial(0.02, steps=[shout, *toy.trial(job, with_curve=False, seconds=0.02).steps])

    said: list[str] = []
    with toy.open_study(tmp_path) as study:
        toy.drive(study, 1, behaviour=odd, say=said.append)
        assert outcomes(study) == ["finished"]
    (line,) = said
    assert "no step of a curve: 'Epoch 1'" in line


@pytest.mark.slow
def test_a_thousand_small_trials_cost_little_and_leave_memory_flat(tmp_path: Path) -> None:
    behave: Behaviour = lambda job: toy.trial(job, with_curve=False, seconds=0.01)  # noqa: E731
    held: list[int] = []

    def watched(job: Job) -> FakeTrial:
        held.append(tracemalloc.get_traced_memory()[0] if len(held) in (100, 600) else 0)
        return behave(job)

    with toy.open_study(tmp_path) as study:
        toy.drive(study, 100, behaviour=behave)
        began = time.process_time()
        toy.drive(study, 300, behaviour=behave)
        each = (time.process_time() - began) / 200
        tracemalloc.start()
        try:
            toy.drive(study, 1000, behaviour=watched)
        finally:
            tracemalloc.stop()
        assert len(study) == 1000
    assert each < 0.010, f"{1000 * each:.1f} ms of processor time a trial"
    grown = (held[600] - held[100]) / 500
    assert grown < 8_000, f"{grown:.0f} bytes a trial"
