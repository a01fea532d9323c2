"""The page, the export and the winner's file: from the ledger alone."""

from __future__ import annotations

import json
import re
from html import escape
from pathlib import Path

import optuna
import pytest
from tests.search import toy

from epigram import cli
from epigram.errors import ConfigError
from epigram.runner import FakeTrial, Job
from epigram.search import Point, StopRule, export, plates, report, slot_plates, winner
from epigram.search.samplers import silent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with everything in it: forecasts, stops, a failure, a confirmed file."""
    where = tmp_path_factory.mktemp("searched") / "study"
    order: list[str] = []

    def behave(job: Job) -> FakeTrial:
        if job.run_id not in order:
            order.append(job.run_id)
        if order.index(job.run_id) == 1:
            return FakeTrial(5.0)
        trial = toy.trial(job)
        config = toy.read_config(job)
        file = job.cwd / "model.epg"
        named = toy.result(config) | {"file": f"runs/{job.run_id}/model.epg"}

        def end() -> None:
            file.write_bytes(b"x" * 10)
            (job.folder / "result.json").write_text(json.dumps(named))

        return FakeTrial(60.0, steps=[*trial.steps[:-1], (60.0, end)])

    with toy.open_study(
        where,
        stopping="forecast",
        forecasts=True,
        rule=StopRule(threshold=0.05),
        looks=(0.5,),
        confirm=1,
        confirm_seeds=2,
    ) as study:
        toy.drive(study, 24, behaviour=behave)
    return where


def test_the_page_says_what_was_reached(folder: Path) -> None:
    page = report.build(folder)
    text = page.read_text()
    found = report.facts(folder)
    assert page == folder / "report" / "index.html"
    assert escape(found["sentence"]) in text
    assert found["outcomes"]["failed"] == 1
    for title in (
        "Size against error",
        "The best so far",
        "Forecast and outcome",
        "Are forecasts honest?",
        "Slots over time",
        "What matters",
    ):
        assert title in text
    assert text.count("<figure") == 6
    assert not re.findall(r"<script|https?://", text)
    assert found["confirmed"]["run_id"] in text


def test_the_same_ledger_gives_the_same_page(folder: Path) -> None:
    first = report.build(folder).read_bytes()
    assert report.build(folder).read_bytes() == first


def test_figures_are_plain_data(folder: Path) -> None:
    found = json.loads(json.dumps(report.facts(folder), allow_nan=False))
    assert found["trials"] == 24
    assert found["best"]["metric"] >= 0.92
    assert found["forecasts"][0]["look"] == 0.5


def test_a_study_that_has_hardly_begun_has_a_page(tmp_path: Path) -> None:
    with toy.open_study(tmp_path / "new"):
        pass
    text = report.build(tmp_path / "new").read_text()
    assert "no feasible design so far" in text
    assert "<figure" not in text
    with pytest.raises(ConfigError, match="not a study's folder"):
        report.build(tmp_path / "nothing")


def test_the_winner_lies_beside_what_is_known_of_it(folder: Path) -> None:
    with toy.open_study(
        folder,
        stopping="forecast",
        forecasts=True,
        rule=StopRule(threshold=0.05),
        looks=(0.5,),
        confirm=1,
        confirm_seeds=2,
    ) as study:
        kept = winner.keep(study)
    assert kept == folder / "winner" / "model.epg"
    assert kept.read_bytes() == b"x" * 10
    about = json.loads((folder / "winner" / "result.json").read_text())
    assert about["passed"] is True
    assert set(about["values"]) == set(toy.SPACE.dimensions)
    assert about["widths"] == {}


def test_a_file_outside_the_study_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    within = winner._within(tmp_path / "study", "../secret")
    assert within is None
    assert winner._within(tmp_path, "secret") == tmp_path / "secret"


def test_optuna_opens_the_export(folder: Path) -> None:
    address = export.to_optuna(folder)
    with silent(optuna):
        study = optuna.load_study(storage=address, study_name=folder.name)
    states = [trial.state.name for trial in study.trials]
    assert len(states) == len(report.read(folder)[1].history)
    assert states[1] == "FAIL"
    assert study.trials[1].user_attrs["note"] == "it wrote no result.json"
    complete = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    assert all("floor" in trial.constraints for trial in complete)
    pruned = [trial for trial in study.trials if trial.state.name == "PRUNED"]
    assert all(trial.intermediate_values for trial in pruned)
    best = report.facts(folder)["best"]["run_id"]
    by_size = {t.user_attrs["run_id"]: t.value for t in complete if t.constraints["floor"] <= 0}
    searched = {r: v for r, v in by_size.items() if r in {t.run_id for t in _search(folder)}}
    assert min(searched, key=searched.__getitem__) == best
    assert export.to_optuna(folder) == address  # written anew


def _search(folder: Path) -> list:
    return report.read(folder)[1].history.search()


def test_the_front_holds_what_no_other_beats_in_both(folder: Path) -> None:
    seen = report.read(folder)[1]
    front = plates.front(seen.finished, seen)
    for one in front:
        beaten = [
            t
            for t in seen.finished
            if plates.size_of(t) < plates.size_of(one) and seen.error(t) <= seen.error(one)
        ]
        assert beaten == []
    assert [plates.size_of(t) for t in front] == sorted(plates.size_of(t) for t in front)
    bars = slot_plates.bars(seen.history)
    assert {bar.slot for bar in bars} == {"fake-0", "fake-1"}


def test_the_command_exports_to_optuna(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with toy.open_study(tmp_path / "study") as study:
        study.tell(study.ask(), accuracy=0.95, size_bytes=10.0)
    assert cli.main(["report", "--optuna", str(tmp_path / "study")]) == 0
    assert capsys.readouterr().out.strip().endswith("export/optuna.db")
    assert (tmp_path / "study" / "export" / "optuna.db").is_file()


def test_the_command_writes_the_page_of_a_search_that_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with toy.open_study(tmp_path / "study") as study:
        study.tell(study.ask(), accuracy=0.95, size_bytes=10.0)
        assert cli.main(["report", str(tmp_path / "study")]) == 0
        page = Path(capsys.readouterr().out.strip())
        assert page == tmp_path / "study" / "report" / "index.html"
        assert "Size against error" in page.read_text()
        path = tmp_path / "study" / "ledger.jsonl"
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 4
        path.write_bytes(content)
        assert cli.main(["report", str(tmp_path / "study")]) == 2
        error = capsys.readouterr().err
        assert "ledger.jsonl, line " in error
        assert error.count("\n") == 1


def test_where_nothing_is_confirmed_nor_feasible_the_nearest_is_shown(tmp_path: Path) -> None:
    with toy.open_study(tmp_path, floor="accuracy>=0.99") as study:
        for accuracy in (0.9, 0.97, 0.95):
            study.tell(study.ask(), accuracy=accuracy, size_bytes=100.0)
        run_id = list(study.history)[1].run_id
    said = f"the nearest is trial 1 ({run_id}) with accuracy 0.97 at 100 size_bytes"
    assert said in report.facts(tmp_path)["sentence"]
    assert said in report.build(tmp_path).read_text()


def test_an_attempt_lasts_until_it_was_last_heard_of(tmp_path: Path) -> None:
    """Its driver dies at 20 s and the next sitting finds it at 5000 s."""
    now = 0.0
    with toy.open_study(tmp_path, clock=lambda: now) as study:
        trial = study.propose()
        study.begin(trial, slot="a")
        now = 20.0
        study.report_point(trial, Point(1, 0.9, 10.0))
    now = 5000.0
    with toy.open_study(tmp_path, clock=lambda: now) as study:
        (trial,) = study.history
        lost = {"run_id": trial.run_id, "attempt": 1, "reason": "driver-lost", "note": "died"}
        study.record("ended", {**lost, "at": now})
        study.report_point(trial, Point(2, 0.9, 10.0))  # read from what it had left
    (bar,) = slot_plates.bars(report.read(tmp_path)[1].history)
    assert (bar.begin, bar.end, bar.kind) == (0.0, 20.0, "again")
    text = report.build(tmp_path).read_text()
    assert "All attempts" in text
    assert "driver-lost" in text
    assert "died" in text
