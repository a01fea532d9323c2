"""Ask and tell: what a study remembers, and that it goes on as if it had not been killed."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.search import toy

from epigram.errors import ConfigError, RunFolderError
from epigram.search import Choice, Outcome, Point, Space, Study, StudySettings
from epigram.search import ledger as ledgers


def serve(study: Study, count: int) -> None:
    """Ask and tell until so many trials of the search are told."""
    while len(study) < count:
        asked = study.ask()
        error, size = toy.noisy(asked.values, asked.seed)
        study.tell(asked, accuracy=1 - error, size_bytes=size, examples=toy.EXAMPLES)


def proposals(study: Study) -> list[tuple[dict, int]]:
    return [(dict(trial.values), trial.seed) for trial in study.history.search()]


def test_the_first_trial_is_the_known_safe_one(tmp_path: Path) -> None:
    with toy.open_study(tmp_path) as study:
        assert study.ask().values == {name: toy.BASE[name] for name in toy.SPACE.dimensions}


def test_any_script_can_ask_and_tell(tmp_path: Path) -> None:
    with toy.open_study(tmp_path, margin=0.0) as study:
        serve(study, 12)
        best = study.best()
        assert best is not None
        assert best.outcome is not None
        sizes = [t.outcome.size for t in study.feasible() if t.outcome and t.outcome.size]
        assert best.outcome.size == min(sizes)
        assert all(toy.truth(t.values)[0] < 0.1 for t in study.feasible())


@pytest.mark.parametrize(("sampler", "count"), [("random", 13), ("tpe", 13), ("gp", 12)])
def test_killed_after_any_event_it_goes_on_as_if_nothing_had_been(
    sampler: str, count: int, tmp_path: Path
) -> None:
    """The ledger cut after each kind of event: the same proposals follow."""
    with toy.open_study(tmp_path / "whole", sampler=sampler) as study:
        serve(study, count)
        expected = proposals(study)
    content = (tmp_path / "whole" / ledgers.LEDGER).read_bytes().splitlines(keepends=True)
    kinds = [event.type for event in ledgers.read(tmp_path / "whole")]
    cuts = [
        len(kinds) // 2 + kinds[len(kinds) // 2 :].index(k) + 1 for k in dict.fromkeys(kinds[1:])
    ]
    assert {kinds[cut - 1] for cut in cuts} == {"asked", "started", "told"}
    for cut in cuts:
        where = tmp_path / f"cut-{cut}"
        shutil.copytree(tmp_path / "whole", where)
        torn = content[cut][:17]
        (where / ledgers.LEDGER).write_bytes(b"".join(content[:cut]) + torn)
        with toy.open_study(where, sampler=sampler) as study:
            serve(study, count)
            assert proposals(study) == expected


def test_what_was_asked_and_not_told_is_handed_out_again(tmp_path: Path) -> None:
    with toy.open_study(tmp_path) as study:
        first = study.ask()
        second = study.ask()
        assert second.run_id != first.run_id
    with toy.open_study(tmp_path) as study:
        again = study.ask()
        assert (again.run_id, again.attempt) == (first.run_id, 2)
        assert again.folder != first.folder
        assert again.run_folder == first.run_folder
        with pytest.raises(ConfigError, match="unknown"):
            study.tell(first.__class__(**{**vars(first), "run_id": "x"}), accuracy=1, size_bytes=1)


@pytest.mark.parametrize("figure", [math.nan, math.inf], ids=["nan", "inf"])
def test_nan_and_infinity_are_outcomes_and_never_the_best(figure: float, tmp_path: Path) -> None:
    with toy.open_study(tmp_path, sampler="tpe", floor="nll<=0.5") as study:
        while len(study) < 12:
            asked = study.ask()
            good = asked.number == 3
            study.tell(asked, nll=0.1 if good else figure, size_bytes=100.0)
        kinds = [t.outcome.kind for t in study.history if t.outcome]
        assert kinds == ["diverged"] * 3 + ["finished"] + ["diverged"] * 8
        best = study.best()
        assert best is not None
        assert best.number == 3


def test_nothing_feasible_names_the_nearest(tmp_path: Path) -> None:
    with toy.open_study(tmp_path, floor="accuracy>=0.999") as study:
        assert study.nearest() is None
        serve(study, 8)
        assert study.best() is None
        nearest = study.nearest()
        assert nearest is not None
        metrics = [t.outcome.metric for t in study.history if t.outcome and t.outcome.metric]
        assert nearest.outcome is not None
        assert nearest.outcome.metric == max(metrics)


def test_a_repeated_proposal_becomes_a_replicate_then_another_point(tmp_path: Path) -> None:
    space = Space({"act": Choice(("relu", "gelu"))})
    base = {"act": "relu", "seed": 0}
    with toy.open_study(tmp_path, space=space, base=base) as study:
        for _ in range(6):
            study.tell(study.ask(), accuracy=0.95, size_bytes=10.0)
        found = proposals(study)
        assert len({(v["act"], seed) for v, seed in found}) == 6
        assert {seed for _, seed in found} == {0, 1, 2}


def test_where_every_point_was_tried_replicates_go_on_and_nothing_known_is_lost(
    tmp_path: Path,
) -> None:
    space = Space({"act": Choice(("relu", "gelu"))})
    with toy.open_study(tmp_path, space=space, base={"act": "relu", "seed": 0}) as study:
        for told in range(10):
            study.tell(study.ask(), accuracy=0.95, size_bytes=10.0 + told)
        assert len(study) == 10
        assert len(set(study.history.trials)) == 10
        sizes = [t.outcome.size for t in study.history if t.outcome]
        assert sizes == [10.0 + told for told in range(10)]
        designs = {trial.design for trial in study.history}
        assert len(designs) == 2


@pytest.mark.parametrize("name", ["seed", "inner.seed"])
def test_what_makes_no_difference_to_a_trial_cannot_be_varied(name: str, tmp_path: Path) -> None:
    space = Space({name: Choice((0, 1))})
    base = {"seed": 0, "inner": {"seed": 0}}
    if name == "inner.seed":  # a setting like any other
        with toy.open_study(tmp_path, space=space, base=base) as study:
            assert study.ask().number == 0
        return
    with pytest.raises(ConfigError, match="each trial has a seed of its own"):
        toy.open_study(tmp_path, space=space, base=base)


def test_two_drivers_on_one_study_are_refused(tmp_path: Path) -> None:
    with (
        toy.open_study(tmp_path),
        pytest.raises(RunFolderError, match="drives this study"),
        toy.open_study(tmp_path),
    ):
        pass


def test_wrong_figures_are_refused_and_nothing_is_told(tmp_path: Path) -> None:
    with toy.open_study(tmp_path) as study:
        asked = study.ask()
        with pytest.raises(ConfigError, match="expected accuracy and size_bytes"):
            study.tell(asked, accuracy=0.9)
        with pytest.raises(ConfigError, match="expected a number above 0"):
            study.tell(asked, accuracy=0.9, size_bytes=0)
        assert len(study) == 0
        assert study.tell(asked).note == "it wrote no result.json"
        with pytest.raises(ConfigError, match="told already"):
            study.tell(asked, accuracy=0.9, size_bytes=1)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"seed": -1}, "seed: got -1"),
        ({"confirm": -2}, "confirm: got -2"),
        ({"stopping": "forecast", "forecasts": False}, "needs forecasts"),
    ],
    ids=["seed", "confirm", "no-forecasts"],
)
def test_wrong_settings_are_refused(wrong: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        StudySettings(**wrong)


def test_a_clock_that_jumps_back_hurts_nobody(tmp_path: Path) -> None:
    times = iter(range(10_000, 0, -1))
    clock: Callable[[], float] = lambda: float(next(times))  # noqa: E731
    with toy.open_study(tmp_path, clock=clock) as study:
        serve(study, 3)
        expected = proposals(study)
    with toy.open_study(tmp_path) as study:
        assert proposals(study) == expected


def test_a_curve_can_be_reported_step_by_step(tmp_path: Path) -> None:
    with toy.open_study(tmp_path, forecasts=True) as study:
        for _ in range(14):
            asked = study.ask()
            trial = study.history.trials[asked.run_id]
            for line in toy.curve(asked.values, asked.seed):
                point = Point(line["step"], line["accuracy"], line["size_bytes"], line["warmup"])
                assert study.report_point(trial, point, steps=line["steps"]) is None
            error, size = toy.noisy(asked.values, asked.seed)
            study.record_outcome(trial, Outcome("finished", 1 - error, size, examples=toy.EXAMPLES))
        last = list(study.history)[-1]
        assert [f["look"] for f in last.forecasts] == [0.25, 0.5, 0.75]
        assert all(f["seq"] < last.told_seq for f in last.forecasts)
        assert all(f["trained_on"] == 12 for f in last.forecasts)
        assert list(study.history)[11].forecasts == []
