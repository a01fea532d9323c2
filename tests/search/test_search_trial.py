"""One trial of a recipe: splits of its own, a curve, a result, and going on after a kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.pipeline import tiny_recipe

from epigram import atomic, config
from epigram.errors import ConfigError, FencedError, NonFiniteError
from epigram.pipeline import check_recipe
from epigram.pipeline.job import Job
from epigram.records import Floor
from epigram.runner import LocalExecutor, fence, processor_slots
from epigram.search import (
    Command,
    Driver,
    Real,
    Space,
    Study,
    StudySettings,
    bounds,
    margins,
    trial,
)
from epigram.search.folder import MetricsTail
from epigram.search.objective import Objective
from epigram.search.verdict import alpha_of
from epigram.train.metrics import append_metrics
from epigram.train.storage import save_state

FLOOR = "accuracy>=0.5"
SPACE = Space({"structure.kl_weight": Real(0.1, 1.0, log=True)})

SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from tests.pipeline import tiny_recipe
from epigram.search import trial
trial.run_trial(Path(sys.argv[1]), tiny_recipe.recipe())
"""


ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def _path_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes find this clone, and the tests in it."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}{os.pathsep}{ROOT}")


def opened(where: Path, **more: int) -> Study:
    recipe = tiny_recipe.recipe()
    base = config.with_overrides(recipe.settings, {"page": False})
    return Study(
        where,
        SPACE,
        floor=FLOOR,
        base=base,
        task=trial.task_of(recipe, aim="accuracy>=0.75"),
        settings=StudySettings(sampler="random", confirm=more.get("confirm", 0), confirm_seeds=1),
    )


def test_trials_never_see_validation_and_the_test_set_is_away() -> None:
    whole = tiny_recipe.splits()
    search = trial.parted(tiny_recipe.splits, "search")
    confirm = trial.parted(tiny_recipe.splits, "confirm")
    assert search.test is None
    assert confirm.test is None
    assert confirm.validation.fingerprint() == whole.validation.fingerprint()
    both = torch.cat([search.control.inputs, search.validation.inputs]).flatten(1)
    rows = {tuple(row.tolist()) for row in both}
    assert rows == {tuple(row.tolist()) for row in whole.control.inputs.flatten(1)}
    assert len(rows) == len(both) == 200


def test_trials_aim_above_the_floor_by_what_confirming_costs() -> None:
    floor = Floor.parse("accuracy>=0.98")
    assert margins.aimed(floor, examples=5000, errors=0.0) == floor
    assert margins.aimed(floor, examples=50, errors=9.0).value == 1.0
    assert margins.aimed(Floor.parse("error<=0.02"), examples=5000, errors=2.0).value < 0.02
    assert margins.aimed(Floor.parse("nll<=0.1"), examples=5000, errors=2.0).value == 0.1


def test_trials_on_their_aim_count_but_for_one_standard_error_of_bad_luck() -> None:
    floor = Floor.parse("accuracy>=0.96")
    for judges in (500, 2500, 40_000):
        aim = margins.aimed(floor, examples=40_000, errors=0.0, judges=judges, margin=1.5)
        objective = Objective(floor, "size_bytes", 1.5)
        error = objective.standard_error(floor.value, judges)
        assert objective.feasible(aim.value - 0.95 * error, examples=judges)
        assert not objective.feasible(aim.value - 1.4 * error, examples=judges)
    assert margins.aimed(floor, examples=40_000, errors=2.0) == margins.aimed(
        floor, examples=40_000, errors=2.0, judges=2500, margin=0.0
    )


def test_a_file_that_is_as_good_as_the_margin_is_confirmed() -> None:
    floor = Floor.parse("accuracy>=0.96")
    for judges, examples in ((2500, 5000), (5000, 30_000)):
        margin = margins.confirmable_margin(judges=judges, examples=examples, files=9)
        objective = Objective(floor, "size_bytes", margin)
        error = objective.standard_error(floor.value, judges)
        true = floor.value + margin * error
        wrong = round((1.0 - true) * examples)
        upper = bounds.upper_share(wrong, examples, alpha=alpha_of(1) / 9)
        assert upper == pytest.approx(objective.limit, abs=0.15 * error)
    assert margins.confirmable_margin(judges=2500, examples=40_000, files=9) == 1.0
    assert margins.confirmable_margin(judges=2500, examples=5000, files=0) == 1.0


def test_no_card_is_touched_where_networks_are_only_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def touched(device: object = None) -> torch.Tensor:
        raise AssertionError(f"a context was made on card {device}")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_rng_state", touched)
    before = torch.get_rng_state()
    recipe = tiny_recipe.recipe()
    assert trial.task_of(recipe) == trial.task_of(recipe)
    check_recipe(recipe, Floor.parse(FLOOR))
    Job(recipe, recipe.settings, tmp_path, None, None, None).build()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_trial_writes_its_curve_and_its_result(tmp_path: Path) -> None:
    with opened(tmp_path) as study:
        asked = study.ask()
        trial.run_trial(asked.folder, tiny_recipe.recipe())
        tail = MetricsTail(asked.folder / "metrics.jsonl", Objective(Floor.parse(FLOOR)))
        points = tail.read()
        assert tail.garbage == 0
        assert [p.step for p in points] == list(range(1, 12))
        assert tail.steps == 11  # 3 plain, 6 structure, 2 fine-tuning
        assert [p.step for p in points if p.warmup] == [1, 2, 3, 4]
        assert [p.step for p in points if p.size] == [4, 5, 6, 7, 8, 9]
        outcome = study.tell(asked)
        assert outcome.kind == "finished"
        assert outcome.examples == 100
        assert outcome.confirmation is None
        assert outcome.file is not None
        path = tmp_path / outcome.file
        assert path.stat().st_size == outcome.size
        assert not (path.parent / "report").exists()


def test_the_task_is_the_same_in_every_call_and_leaves_the_random_state() -> None:
    recipe, state = tiny_recipe.recipe(), torch.get_rng_state()
    task = trial.task_of(recipe, plain="a")
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    assert trial.task_of(recipe, plain="a") == task
    json.dumps(task, allow_nan=False)


def test_a_folder_that_is_no_trials_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a trial's folder"):
        trial.read_trial(tmp_path)


@pytest.mark.parametrize("ending", ["result", "nan"])
def test_a_forgotten_attempt_writes_over_nothing_of_its_successors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """Its checkpoint, curve, file and result are refused from the moment the next attempt begins."""
    with opened(tmp_path) as study:
        asked = study.ask()
        run = asked.run_folder
        monkeypatch.setenv("EPIGRAM_RUN_DIR", str(run))
        monkeypatch.setenv("EPIGRAM_ATTEMPT", "1")
        refused = []

        def compress(*_: object, progress: trial.CurveWriter, **__: object) -> dict[str, object]:
            writes = {
                "checkpoint": lambda: save_state(run / "plain.pt", {"a": 1}),
                "metrics": lambda: append_metrics(run / "metrics.jsonl", {"epoch": 1}),
                "file": lambda: atomic.write_bytes(run / "model.epg", b"first"),
                "curve": lambda: progress.epoch({"stage": "plain", "epoch": 1}),
            }
            for write in writes.values():
                write()
            fence.claim(run, 2)
            before = _files(tmp_path)
            for name, write in writes.items():
                with pytest.raises(FencedError, match="attempt 2 has begun"):
                    write()
                refused.append(name)
            assert _files(tmp_path) == before
            if ending == "nan":
                raise NonFiniteError("a weight is not finite")
            figures = {"floor": {"validation_value": 0.9}, "file_bytes": 1, "dense_bytes": 2}
            return {**figures, "splits": {"validation": {"examples": 100}}}

        monkeypatch.setattr(trial, "compress_recipe", compress)
        with pytest.raises(FencedError):
            trial.run_trial(asked.folder, tiny_recipe.recipe())
        assert refused == ["checkpoint", "metrics", "file", "curve"]
        assert not (asked.folder / "result.json").exists()
        save_state(run / "plain.pt", {"a": 2})  # nothing of the fence is left here


def _files(where: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in where.rglob("*") if p.is_file()}


@pytest.mark.slow
@pytest.mark.usefixtures("_path_of_processes")
def test_a_search_with_real_processes_ends_with_a_confirmed_file(tmp_path: Path) -> None:
    """Two trials and a confirmation below supervisors, one of them killed from outside on the way."""
    script = tmp_path / "trial.py"
    script.write_text(SCRIPT.replace("trial.run_trial", "torch.manual_seed(0); trial.run_trial"))
    with (
        opened(tmp_path / "study", confirm=1) as study,
        LocalExecutor("tests", slots=processor_slots(2)) as executor,
    ):
        Driver(study, executor, Command((sys.executable, str(script), "{folder}")), trials=2).run()
        assert [t.outcome.kind for t in study.history if t.outcome] == ["finished"] * 3
        confirmed = study.history.confirmed
        assert confirmed is not None
        assert confirmed["tested"], confirmed["sentence"]


@pytest.mark.slow
@pytest.mark.usefixtures("_path_of_processes")
def test_the_second_attempt_goes_on_where_the_first_was_killed(tmp_path: Path) -> None:
    """The files of a killed and an unharmed run are the same to the byte."""
    files = []
    for name, kill in (("whole", False), ("killed", True)):
        with opened(tmp_path / name) as study:
            asked = study.ask()
            if kill:
                begun = subprocess.Popen(
                    [sys.executable, "-c", SCRIPT, str(asked.folder)],
                    stderr=subprocess.DEVNULL,
                )
                curve = asked.folder / "metrics.jsonl"
                while not curve.exists() or curve.read_text().count("\n") < 5:
                    assert begun.poll() is None
                begun.kill()
                begun.wait()
                study.history.trials[asked.run_id].running = False
                asked = study.ask()
                assert asked.attempt == 2
            done = subprocess.run(
                [sys.executable, "-c", SCRIPT, str(asked.folder)], check=False, capture_output=True
            )
            assert done.returncode == 0, done.stderr
            outcome = study.tell(asked)
            assert outcome.file is not None
            files.append((tmp_path / name / outcome.file).read_bytes())
            steps = [
                json.loads(line)["step"]
                for line in (asked.folder / "metrics.jsonl").read_text().splitlines()
            ]
            assert steps[-1] == 11
            assert (steps[0] > 1) is kill
    assert files[0] == files[1]
