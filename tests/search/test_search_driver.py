"""The driver on pretended slots: curves, stops, interrupts, a full disk, and a thousand small trials."""

from __future__ import annotations

import json
import os
import signal
import time
import tracemalloc
from pathlib import Path

import pytest
from tests.search import toy

from epigram.errors import InterruptedRunError, StorageError
from epigram.runner import FakeTrial, Job
from epigram.search import Point, StopRule, ledger


def test_trials_run_in_parallel_and_are_told(tmp_path: Path) -> None:
    with toy.open_study(tmp_path) as study:
        executor = toy.drive(study, 6, slots=3)
        assert toy.outcomes(study) == ["finished"] * 6
        assert executor.now == pytest.approx(120.0)
        assert {job.argv[1] for job in executor.started} == {
            str(job.folder) for job in executor.started
        }
        trial = next(iter(study.history))
        assert [p.step for p in trial.curve()] == list(range(1, toy.STEPS + 1))
        assert trial.steps == toy.STEPS
        assert trial.outcome is not None
        assert trial.outcome.seconds == pytest.approx(60.0)


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
        assert toy.outcomes(study) == ["finished", "finished", "open"]
    assert signal.getsignal(signal.SIGTERM) == before
    with toy.open_study(tmp_path / "cut") as study:
        toy.drive(study, 6, slots=1)
        assert toy.outcomes(study) == ["finished"] * 6
        assert [dict(t.values) for t in study.history] == expected
        assert list(study.history)[2].attempt == 2


def test_the_time_that_is_up_stops_it_in_order(tmp_path: Path) -> None:
    with toy.open_study(tmp_path) as study:
        with pytest.raises(InterruptedRunError, match="the time was up"):
            toy.drive(study, 6, slots=1, max_seconds=100.0)
        assert toy.outcomes(study)[0] == "finished"
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
        assert toy.outcomes(study) == ["finished"] * 6


def test_a_result_written_before_the_driver_died_is_not_lost(tmp_path: Path) -> None:
    with toy.open_study(tmp_path) as study:
        asked = study.ask()
        (asked.folder / "result.json").write_text(
            json.dumps(toy.result(dict(asked.config) | {"attempt": 1}))
        )
    with toy.open_study(tmp_path) as study:
        executor = toy.drive(study, 1)
        assert toy.outcomes(study) == ["finished"]
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
        assert toy.outcomes(study) == ["stopped", "finished"]
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
        toy.drive(study, 3, behaviour=toy.only_for(1, odd), say=said.append)
        assert toy.outcomes(study) == ["finished"] * 3
        (line,) = said
        assert "no step of a curve: 'Epoch 1'" in line


def test_garbage_in_the_curve_of_a_trial_that_has_ended_is_said_too(tmp_path: Path) -> None:
    def odd(job: Job) -> FakeTrial:
        shout = (0.01, lambda: (job.folder / "metrics.jsonl").write_text("Epoch 1\n"))
        return FakeTrial(0.02, steps=[shout, *toy.trial(job, with_curve=False, seconds=0.02).steps])

    said: list[str] = []
    with toy.open_study(tmp_path) as study:
        toy.drive(study, 1, behaviour=odd, say=said.append)
        assert toy.outcomes(study) == ["finished"]
    (line,) = said
    assert "no step of a curve: 'Epoch 1'" in line


@pytest.mark.slow
def test_a_thousand_small_trials_cost_little_and_leave_memory_flat(tmp_path: Path) -> None:
    behave: toy.Behaviour = lambda job: toy.trial(job, with_curve=False, seconds=0.01)  # noqa: E731
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
