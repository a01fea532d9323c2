from __future__ import annotations

import json
import subprocess

import pytest
import record


def test_summary_is_median_and_range():
    assert record.summary([3.0, 1.0, 10.0]) == {"median": 3.0, "min": 1.0, "max": 10.0, "n": 3}
    assert record.summary([1, 4])["median"] == 2.5
    with pytest.raises(ValueError, match="expected at least one"):
        record.summary([])


def test_the_median_run_is_chosen_by_bytes_and_brings_its_own_error():
    runs = [
        {"seed": 0, "file_bytes": 900, "error": 0.7},
        {"seed": 1, "file_bytes": 700, "error": 0.9},
        {"seed": 2, "file_bytes": 800, "error": 1.1},
    ]
    assert record.median_by_bytes(runs)["error"] == 1.1
    assert record.median_by_bytes(runs[::-1])["seed"] == 2


def test_of_an_even_number_the_smaller_of_the_middle_two_is_the_median():
    runs = [{"seed": s, "file_bytes": b} for s, b in enumerate((4, 1, 3, 2))]
    assert record.median_by_bytes(runs)["file_bytes"] == 2


def test_equal_sizes_are_told_apart_by_seed():
    runs = [{"seed": s, "file_bytes": 5} for s in (2, 0, 1)]
    assert record.median_by_bytes(runs)["seed"] == 1
    with pytest.raises(ValueError, match="expected at least one"):
        record.median_by_bytes([])


def test_a_result_says_what_made_it(tmp_path):
    about = record.origin(seeds=range(3), argv=["benchmarks/x.py", "--seeds", "a b"])
    path = record.write_result("x", about, {"figure": 1.5}, folder=tmp_path)
    written = json.loads(path.read_text())
    assert path.name == "x.json"
    assert written["benchmark"] == "x"
    assert written["figure"] == 1.5
    assert written["seeds"] == [0, 1, 2]
    assert written["command"] == "python benchmarks/x.py --seeds 'a b'"
    assert written["threads"] == 1
    assert written["date"].endswith("+00:00")
    assert written["versions"]["torch"]
    assert written.keys() >= {"commit", "dirty", "platform"}


@pytest.mark.parametrize("figures", [{"seeds": [7]}, {"benchmark": "y"}, {"x": float("nan")}])
def test_a_result_that_hides_its_origin_or_holds_nan_is_refused(tmp_path, figures):
    about = record.origin(seeds=[0])
    with pytest.raises(ValueError):  # noqa: PT011 - two sources, one kind
        record.write_result("x", about, figures, folder=tmp_path)
    assert not (tmp_path / "x.json").exists()


def test_the_command_is_told_relative_to_the_repository():
    argv = [f"{record.ROOT}/benchmarks/lenets.py", "--out", f"{record.ROOT}/runs/bench"]
    assert record.command_line(argv) == "python benchmarks/lenets.py --out runs/bench"


def test_reads_of_the_test_set_are_appended_one_a_line(tmp_path):
    log = tmp_path / "deep" / "reads.jsonl"
    code = {"commit": "abc", "dirty": False}
    for seed in (0, 1):
        figure = {"test_error_percent": 1.5 + seed, "dense_test_error_percent": None}
        record.record_test_read(recipe="net/data", seed=seed, figure=figure, code=code, path=log)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["seed"] for line in lines] == [0, 1]
    assert lines[1]["figure"] == {"test_error_percent": 2.5, "dense_test_error_percent": None}
    assert lines[0].keys() == {"date", "commit", "dirty", "recipe", "seed", "figure"}
    assert lines[0]["commit"] == "abc"


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A repository with one commit, which ``record`` takes for its own."""

    def git(*words):
        identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    for name in ("src/a.py", "benchmarks/b.py", "benchmarks/results/r.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    monkeypatch.setattr(record, "ROOT", tmp_path)
    return tmp_path


def test_a_clean_clone_is_clean_and_results_do_not_make_it_dirty(clone):
    assert record.code_version()["dirty"] is False
    assert len(record.code_version()["commit"]) == 40
    (clone / "benchmarks/results/r.json").write_text("2\n")
    (clone / "benchmarks/test_reads.jsonl").write_text("{}\n")
    (clone / "README.md").write_text("words\n")
    assert record.code_version()["dirty"] is False


@pytest.mark.parametrize("name", ["src/a.py", "src/new.py", "benchmarks/b.py"])
def test_changed_or_new_code_makes_it_dirty(clone, name):
    (clone / name).write_text("2\n")
    assert record.code_version()["dirty"] is True


def test_outside_a_clone_neither_is_known(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert record.code_version() == {"commit": None, "dirty": None}
