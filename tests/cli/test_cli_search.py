"""``epigram search``: what it refuses, what it would do, and a whole search of a network of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from epigram import cli
from epigram.cli import search, search_call
from epigram.runner.cards import NoCards

NETWORK = """
from tests.pipeline import tiny_recipe

def build():
    return tiny_recipe.TinyNet()

def loaders():
    whole = tiny_recipe.splits()
    return whole
"""

VARY = ("lenet-5/mnist", "--vary")


def call(*words: str) -> search_call.Search | str:
    return search_call.read(search.parser(), words)


def test_widths_and_settings_are_varied_unless_a_flag_fixes_them() -> None:
    found = call("lenet-300-100/mnist", "--structure.kl_weight", "0.7")
    assert isinstance(found, search_call.Search)
    names = list(found.space.dimensions)
    assert "structure.kl_weight" not in names
    assert {"widths.fc1", "widths.fc2", "prune.tolerance"} <= set(names)
    assert found.settings.structure.kl_weight == 0.7
    assert found.settings.page is False
    assert str(found.floor) == "accuracy>=0.981"
    assert found.folder == Path("runs/search-lenet-300-100-mnist")


def test_what_is_varied_can_be_named() -> None:
    found = call(
        "lenet-5/mnist", "--vary", "structure.kl_weight=0.1..3 log", "--vary", "widths.fc1=50..300"
    )
    assert isinstance(found, search_call.Search)
    assert list(found.space.dimensions) == ["structure.kl_weight", "widths.fc1"]


@pytest.mark.parametrize(
    ("words", "wall_s", "patience"),
    [
        ((), None, 10.0),
        (("--trial-minutes", "2"), 120.0, 10.0),
        (("--executor", "slurm"), None, None),
    ],
    ids=["derived", "given", "slurm"],
)
def test_a_trial_has_a_limit(
    words: tuple[str, ...], wall_s: float | None, patience: float | None
) -> None:
    found = call("lenet-5/mnist", *words)
    assert isinstance(found, search_call.Search)
    made = search.command(found)
    assert (made.wall_s, made.patience) == (wall_s, patience)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("lenet-9/mnist",), "unknown recipe 'lenet-9/mnist'; did you mean"),
        (("lenet-5/mnist", "--trials", "0"), "expected a whole number from 1 on"),
        (("lenet-5/mnist", "--vary", "lr"), "expected SETTING=RANGE"),
        (("lenet-5/mnist", "--vary", "lr=3..1"), "expected finite numbers with low < high"),
        (("lenet-5/mnist", "--trails", "3"), "unknown flag '--trails'; did you mean '--trials'?"),
        (("lenet-5/mnist", "--floor", "good"), "expected 'metric>=value'"),
        ((), "expected a recipe"),
        ((*VARY, "structure.kl_wait=1..3"), "did you mean 'structure.kl_weight'?"),
        ((*VARY, "structure.kl_weight=-1..3"), "expected a finite number >= 0"),
        ((*VARY, "widths.fc9=10..30"), "unknown key 'widths.fc9'; did you mean"),
        ((*VARY, "seed=0..3"), "seed: cannot be varied"),
        ((*VARY, "page=true|false"), "page: cannot be varied, trials would be the same"),
        ((*VARY, "teacher_share=0..1", "--teacher_share", "0.5"), "fixed by the flag"),
        ((*VARY, "teacher_share=0..1", "--vary", "teacher_share=0..0.5"), "named twice"),
        ((*VARY, "widths.fc1=9..99", "--from", "x"), "--from names has its own widths"),
    ],
    ids=[
        "recipe",
        "trials",
        "vary",
        "range",
        "flag",
        "floor",
        "nothing",
        "no-setting",
        "refused-value",
        "no-width",
        "seed",
        "bookkeeping",
        "fixed",
        "twice",
        "taken",
    ],
)
@pytest.mark.parametrize("dry", [(), ("--dry-run",)], ids=["search", "dry-run"])
def test_a_wrong_call_is_one_line(
    words: tuple[str, ...],
    says: str,
    dry: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["search", *words, "--out", str(tmp_path / "s"), *dry]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not (tmp_path / "s").exists()


def test_a_card_that_is_not_there_is_refused_before_any_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("epigram.runner.local.find_probe", NoCards)
    words = ["search", "lenet-300-100/mnist", "--floor", "accuracy>=0.98", "--device", "cuda"]
    assert cli.main([*words, "--out", str(tmp_path / "s")]) == 2
    error = capsys.readouterr().err
    assert "shows no graphics card" in error
    assert "--device cpu" in error
    assert error.count("\n") == 1


def test_help_lists_the_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["search", "--help"]) == 0
    assert "--vary" in capsys.readouterr().out


@pytest.mark.slow
def test_a_search_of_a_network_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    root = Path(__file__).resolve().parents[2]
    monkeypatch.setenv("PYTHONPATH", f"{root / 'src'}:{root}")
    (tmp_path / "mine.py").write_text(NETWORK)
    words = [
        "search",
        "--model",
        "mine:build",
        "--data",
        "mine:loaders",
        "--floor",
        "accuracy>=0.5",
        "--trials",
        "2",
        "--out",
        "s",
        "--confirm",
        "1",
        "--sampler",
        "random",
        "--vary",
        "structure.kl_weight=0.1..1",
        "--plain.epochs",
        "2",
        "--structure.epochs",
        "3",
        "--finetune.epochs",
        "1",
        "--parallel",
        "2",
        "--json",
    ]
    assert cli.main([*words, "--dry-run"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["trials"] == 2
    assert not (tmp_path / "s").exists()
    code = cli.main(words)
    found = json.loads(capsys.readouterr().out)
    assert found["trials"] == 2, found
    assert code == (0 if found["winner"] else 3)
    assert Path(found["page"]).is_file()
    assert cli.main(words) == code  # nothing is left to do
