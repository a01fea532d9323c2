"""The winner's curse: what was lucky is not confirmed, and files are confirmed, not configurations."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom
from tests.search import toy

from epigram.records import Floor
from epigram.runner import FakeTrial, Job
from epigram.search import Objective, Outcome, Trial, bounds, report
from epigram.search.verdict import ALPHA, alpha_of, better, judge, renewed

OBJECTIVE = Objective(Floor.parse("accuracy>=0.92"))


def judged(
    name: str, size: float, *, error: float, search_error: float = 0.05, **more: Any
) -> Trial:
    confirmation = {"accuracy": 1 - error, "examples": 5000} | more
    outcome = Outcome("finished", 1 - search_error, size, confirmation=confirmation)
    return Trial(0, name, {}, 1000, phase="confirm", design="d", outcome=outcome)


def test_the_smallest_file_that_is_certain_is_confirmed() -> None:
    trials = [
        judged("small", 100.0, error=0.079),
        judged("middle", 200.0, error=0.060),
        judged("large", 300.0, error=0.050),
    ]
    verdict = judge(trials, OBJECTIVE, None)
    assert verdict["run_id"] == "middle"
    assert [one["passed"] for one in verdict["tested"]] == [False, True]
    assert verdict["tested"][0]["upper"] > 0.08
    assert verdict["tested"][1]["alpha"] == pytest.approx(0.05 / 3)


def test_the_bound_is_too_low_in_five_per_cent_of_all_cases_at_most() -> None:
    n, rate = 400, 0.08
    missed = sum(
        binom.pmf(hits, n, rate)
        for hits in range(n + 1)
        if bounds.upper_share(hits, n, alpha=0.05) < rate
    )
    assert 0.02 < missed <= 0.05
    assert bounds.upper_share(n, n, alpha=0.05) == 1.0


def test_a_lucky_winner_is_rejected_and_nothing_is_returned_for_it() -> None:
    lucky = judged("lucky", 50.0, error=0.11, search_error=0.07)
    verdict = judge([lucky], OBJECTIVE, None)
    assert verdict["run_id"] is None
    assert "nothing is confirmed: none of 1 files" in verdict["sentence"]


def test_a_file_that_misses_the_floor_on_validation_is_not_put_to_the_test() -> None:
    verdict = judge([judged("a", 1.0, error=0.01, search_error=0.1)], OBJECTIVE, None)
    assert verdict["run_id"] is None
    assert verdict["tested"] == []
    assert "even on validation" in verdict["sentence"]


def test_trials_that_confirm_nothing_are_told_so() -> None:
    trial = judged("a", 1.0, error=0.01)
    trial.outcome = Outcome("finished", 0.99, 1.0)
    assert "wrote no 'confirmation'" in judge([trial], OBJECTIVE, None)["sentence"]
    nameless = judged("b", 1.0, error=0.01, examples=None)
    verdict = judge([nameless], OBJECTIVE, None)
    assert verdict["run_id"] is None
    assert "neither examples nor a standard error" in verdict["sentence"]


def test_a_metric_that_is_no_share_needs_a_standard_error() -> None:
    wanted = Objective(Floor.parse("nll<=0.1"))
    outcome = Outcome("finished", 0.05, 10.0, confirmation={"nll": 0.08, "se": 0.01})
    trial = Trial(0, "a", {}, 0, phase="confirm", outcome=outcome)
    bound = bounds.bound_of(trial, wanted, alpha=0.05)
    assert bound is not None
    assert bound.upper == pytest.approx(0.08 + 1.645 * 0.01, abs=1e-4)
    assert judge([trial], wanted, None)["run_id"] == "a"


def test_a_search_ends_with_new_seeds_and_a_confirmed_file(tmp_path: Path) -> None:
    with toy.open_study(tmp_path, confirm=2, confirm_seeds=3) as study:
        toy.drive(study, 14)
        confirming = [t for t in study.history if t.phase == "confirm"]
        assert len(confirming) == 6
        assert {t.seed for t in confirming} == {1000, 1001, 1002}
        assert {t.design for t in confirming} <= {t.run_id for t in study.history.search()}
        confirmed = study.history.confirmed
        assert confirmed is not None
        assert confirmed["run_id"] in {t.run_id for t in confirming}
        winner = study.history.trials[confirmed["run_id"]]
        assert toy.truth(winner.values)[0] <= 0.08
    with toy.open_study(tmp_path, confirm=2, confirm_seeds=3) as study:
        executor = toy.drive(study, 14)
        assert executor.started == []
        assert study.history.confirmed == confirmed


def test_a_floor_nobody_reaches_is_said_with_the_nearest(tmp_path: Path) -> None:
    with toy.open_study(tmp_path, floor="accuracy>=0.999", confirm=2) as study:
        toy.drive(study, 5)
        confirmed = study.history.confirmed
        assert confirmed is not None
        assert confirmed["run_id"] is None
        nearest = study.nearest()
        assert nearest is not None
        assert confirmed["sentence"].startswith("no feasible design")
        assert f"the nearest is trial {nearest.number} ({nearest.run_id})" in confirmed["sentence"]


def test_more_trials_bring_another_verdict(tmp_path: Path) -> None:
    with toy.open_study(tmp_path, confirm=1) as study:
        toy.drive(study, 2, behaviour=lambda job: FakeTrial(1.0))
        first = study.history.confirmed
        assert first is not None
        assert first["run_id"] is None
    with toy.open_study(tmp_path, confirm=1) as study:
        assert study.history.verdict_holds
        toy.drive(study, 16)
        second = study.history.confirmed
        assert second is not None
        assert second["run_id"] is not None
    with toy.open_study(tmp_path, confirm=1) as study:
        assert toy.drive(study, 16).started == []
        assert study.history.confirmed == second


def test_a_confirmed_file_is_only_replaced_by_a_smaller_one(tmp_path: Path) -> None:
    def worthless(job: Job) -> FakeTrial:
        return FakeTrial(1.0)

    with toy.open_study(tmp_path, confirm=1) as study:
        toy.drive(study, 14)
        first = study.history.confirmed
        assert first is not None
        assert first["run_id"] is not None
        toy.drive(study, 15, behaviour=worthless)
        assert study.history.confirmed == first
        assert study.history.verdict_holds
    (passed,) = (one for one in first["tested"] if one["passed"])
    larger = {"run_id": "x", "tested": [passed | {"size": passed["size"] + 1}]}
    smaller = {"run_id": "x", "tested": [passed | {"size": passed["size"] - 1}]}
    assert better(first, larger) is first
    assert better(first, smaller) is smaller
    assert better(None, larger) is larger


def confirms_wrongly(chance: np.random.Generator, *, verdicts: int, spending: bool) -> bool:
    """Does a study whose files all miss the floor by a hair confirm one, in up to so many verdicts?"""
    standing: Mapping[str, Any] | None = None
    trials: list[Trial] = []
    for number in range(verdicts):
        known = {trial.run_id for trial in trials}
        for index, wrong in enumerate(chance.binomial(5000, 0.0801, chance.choice([1, 3, 9]))):
            trials.append(judged(f"{number}-{index}", chance.random(), error=int(wrong) / 5000))
        if spending:
            standing = renewed(standing, trials, OBJECTIVE, None, judged=known)
        else:
            standing = judge([t for t in trials if t.run_id not in known], OBJECTIVE, None)
        if standing["run_id"] is not None:
            return True
    return False


@pytest.mark.parametrize(("spending", "least", "most"), [(True, 0.02, 0.05), (False, 0.12, 0.25)])
def test_five_verdicts_together_err_in_five_per_cent_of_all_studies_at_most(
    spending: bool, least: float, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where each verdict has 5 % of its own, a floor that is missed is "held" in every fifth study."""
    monkeypatch.setattr(bounds, "upper_share", functools.cache(bounds.upper_share))
    chance = np.random.default_rng(1)
    wrong = sum(confirms_wrongly(chance, verdicts=5, spending=spending) for _ in range(2000))
    assert least < wrong / 2000 <= most


def test_all_verdicts_there_can_be_have_five_per_cent_together() -> None:
    assert sum(alpha_of(number) for number in range(1, 60)) <= ALPHA
    assert alpha_of(1) == 0.04


def test_a_later_verdict_has_less_and_asks_only_files_that_are_new() -> None:
    poor = [judged("a", 100.0, error=0.09), judged("b", 90.0, error=0.09)]
    first = renewed(None, poor, OBJECTIVE, None)
    assert (first["run_id"], first["verdicts"], first["spent"]) == (None, 1, pytest.approx(0.04))
    assert [one["alpha"] for one in first["tested"]] == [0.02] * 2
    seen = {"a", "b"}
    assert renewed(first, poor, OBJECTIVE, None, judged=seen) is first  # nothing new, nothing spent
    good = judged("c", 200.0, error=0.05)
    second = renewed(first, [*poor, good], OBJECTIVE, None, judged=seen)
    assert (second["run_id"], second["verdicts"], second["alpha"]) == ("c", 2, 0.008)
    assert [(one["run_id"], one["verdict"]) for one in second["tested"]] == [
        ("b", 1),
        ("a", 1),
        ("c", 2),
    ]
    assert second["spent"] == pytest.approx(0.048)
    larger = judged("d", 300.0, error=0.01)
    third = renewed(second, [*poor, good, larger], OBJECTIVE, None, judged=seen | {"c"})
    assert (third["run_id"], third["sentence"]) == ("c", second["sentence"])
    assert (third["verdicts"], third["tested"][-1]["passed"]) == (3, True)
    smaller = judged("e", 150.0, error=0.01)
    fourth = renewed(third, [smaller], OBJECTIVE, None)
    assert (fourth["run_id"], fourth["tested"][-1]["alpha"]) == ("e", alpha_of(4))


def unlucky(rounds: int, *, confirm: int) -> Callable[[Job], FakeTrial]:
    """Trials of which those that confirm miss the floor in so many rounds of one seed a design."""
    asked: list[str] = []

    def behave(job: Job) -> FakeTrial:
        config = toy.read_config(job)
        if config["phase"] != "confirm":
            return toy.trial(job)
        asked.append(config["run_id"])
        found = toy.result(config)
        found["accuracy"] = 0.95
        found["confirmation"]["accuracy"] = 0.9 if len(asked) <= rounds * confirm else 0.95
        path = job.folder / "result.json"
        return FakeTrial(1.0, steps=[(0.5, lambda: path.write_text(json.dumps(found)))])

    return behave


def test_where_nothing_holds_the_next_round_asks_designs_with_more_to_spare(tmp_path: Path) -> None:
    with toy.open_study(tmp_path, confirm=2, confirm_seeds=1) as study:
        toy.drive(study, 24, behaviour=unlucky(1, confirm=2))
        confirmed = study.history.confirmed
        assert confirmed is not None
        assert (confirmed["verdicts"], confirmed["spent"]) == (2, pytest.approx(0.048))
        assert confirmed["run_id"] is not None
        searched = {t.run_id: t for t in study.history.search()}
        outcomes = [searched[one["design"]].outcome for one in confirmed["tested"]]
        assert len({one["design"] for one in confirmed["tested"]}) == len(outcomes)
        margins = [
            2.0 if study.objective.feasible(o.metric, examples=o.examples, margin=2.0) else 1.0
            for o in outcomes
            if o is not None and o.metric is not None
        ]
        assert margins[2:] == [2.0] * len(margins[2:])
        assert toy.drive(study, 24).started == []


def test_the_ledger_and_the_page_say_what_verdicts_have_spent(tmp_path: Path) -> None:
    with toy.open_study(tmp_path, confirm=2, confirm_seeds=1) as study:
        executor = toy.drive(study, 24, behaviour=unlucky(9, confirm=2))
        first = study.history.confirmed
        assert first is not None
        assert len(executor.started) == 24 + 3 * 2, "three rounds of two designs"
        assert (first["run_id"], first["spent"]) == (None, pytest.approx(0.0496))
        assert toy.drive(study, 24).started == []
    with toy.open_study(tmp_path, confirm=2, confirm_seeds=1) as study:
        toy.drive(study, 40)
        second = study.history.confirmed
        assert second is not None
        assert second["run_id"] is not None
        assert second["verdicts"] == 4
        assert {one["run_id"] for one in first["tested"]} < {t["run_id"] for t in second["tested"]}
    page = report.build(tmp_path).read_text()
    assert "in 4 verdicts" in page
    assert "hold for all of them together with 95.01\u202f%" in page
    assert "4: confirmed" in page
    assert "1: not certain" in page


def test_where_an_earlier_version_has_spent_all_nothing_more_is_asked(tmp_path: Path) -> None:
    """Its verdicts had 5 % each; they stay as they are, and can be read."""
    with toy.open_study(tmp_path, confirm=1) as study:
        toy.drive(study, 8)
        now = study.history.confirmed
        assert now is not None
        tested = [{k: v for k, v in one.items() if k != "verdict"} for one in now["tested"]]
        old = {key: now[key] for key in ("run_id", "sentence")} | {"tested": tested}
        study.record("confirmed", old)
        assert "by an earlier version" in report.build(tmp_path).read_text()
        executor = toy.drive(study, 20)
        assert len(executor.started) == 12
        confirmed = study.history.confirmed
        assert confirmed is not None
        assert confirmed["run_id"] == old["run_id"]
        assert confirmed["sentence"].endswith("are spent: another study is needed for another one")
        toy.drive(study, 21)
        assert study.history.confirmed == confirmed


def test_killed_while_it_confirms_it_goes_on(tmp_path: Path) -> None:
    from epigram.errors import InterruptedRunError

    def stuck(job: Job) -> FakeTrial:
        if toy.read_config(job)["phase"] == "confirm":
            return FakeTrial(1e9)
        return toy.trial(job)

    with toy.open_study(tmp_path, confirm=1) as study, pytest.raises(InterruptedRunError):
        toy.drive(study, 8, behaviour=stuck, max_seconds=2000.0)
    with toy.open_study(tmp_path, confirm=1) as study:
        toy.drive(study, 8)
        assert study.history.confirmed is not None
        confirming = [t for t in study.history if t.phase == "confirm"]
        assert len(confirming) == 3
        assert all(t.finished for t in confirming)
