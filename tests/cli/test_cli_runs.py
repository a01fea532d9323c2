"""What train, compress and evaluate ask of the pipeline, and what they print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from epigram import cli
from epigram.errors import ConfigError


def test_compress_passes_on_what_was_asked(pipeline: Any) -> None:
    Path("plain").mkdir()
    argv = "compress tiny/noise --out runs/b --floor accuracy>=51% --from plain --force --quiet"
    assert cli.main([*argv.split(), "--max-minutes", "2", "--keep-posterior"]) == 0
    name, (recipe, _, folder), options = pipeline.calls[0]
    assert (name, recipe.name, folder) == ("compress_recipe", "tiny/noise", Path("runs/b"))
    assert options == {
        "floor": "accuracy>=0.51",
        "budget": None,
        "max_drop": None,
        "metric": None,
        "from_folder": Path("plain"),
        "force": True,
        "progress": None,
        "max_minutes": 2.0,
        "keep_posterior": True,
    }


def test_without_a_word_the_floor_and_the_folder_are_the_recipes(pipeline: Any) -> None:
    assert cli.main(["compress", "tiny/noise"]) == 0
    _, (_, _, folder), options = pipeline.calls[0]
    assert folder == Path("runs/tiny-noise")
    assert options["floor"] == "accuracy>=0.5"
    assert options["progress"] == "auto"


def test_a_missed_floor_is_3_and_says_what_was_reached(
    pipeline: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.result["floor"] = {
        "metric": "accuracy",
        "value": 0.5,
        "validation_value": 0.41,
        "met": False,
        "reason": "accuracy 0.41 on validation",
    }
    assert cli.main(["compress", "tiny/noise", "--json"]) == 3
    printed = capsys.readouterr()
    assert json.loads(printed.out)["floor"]["met"] is False
    assert "accuracy>=0.5 could not be met: accuracy 0.41 on validation" in printed.err
    assert "1234 bytes" in printed.err


@pytest.mark.parametrize(
    ("flags", "options"),
    [
        (["--budget", "1kB"], {"floor": None, "budget": 1000, "max_drop": None}),
        (["--max-drop", "0.005"], {"floor": None, "budget": None, "max_drop": 0.005}),
        (["--budget", "1kB", "--metric", "nll"], {"budget": 1000, "metric": "nll"}),
    ],
    ids=["budget", "max-drop", "metric"],
)
def test_a_budget_or_a_drop_takes_the_place_of_the_floor(
    flags: list[str], options: dict[str, Any], pipeline: Any
) -> None:
    assert cli.main(["compress", "tiny/noise", *flags]) == 0
    assert {key: pipeline.calls[0][2][key] for key in options} == options


@pytest.mark.parametrize(
    "flags",
    [
        ["--budget", "much"],
        ["--max-drop", "-1"],
        ["--budget", "1kB", "--max-drop", "0.1"],
        ["--budget", "1kB", "--floor", "accuracy>=0.5"],
        ["--metric", "nll"],
        ["--budget", "1kB", "--metric", "nll<=0.1"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_asked_together_or_at_all_is_2(flags: list[str], pipeline: Any) -> None:
    assert cli.main(["compress", "tiny/noise", *flags]) == 2
    assert pipeline.calls == []


@pytest.mark.parametrize("command", ["train", "compress"])
def test_json_is_one_document_on_stdout(
    command: str, pipeline: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([command, "tiny/noise", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == pipeline.result


def test_a_person_reads_where_everything_lies(
    pipeline: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("runs/b").mkdir(parents=True)
    Path("runs/b/model.epg").write_bytes(b"x")
    assert cli.main(["compress", "tiny/noise", "--out", "runs/b"]) == 0
    assert "runs/b/model.epg" in capsys.readouterr().out


def test_evaluate_prints_bytes_error_and_ratio(
    pipeline: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("a.epg").write_bytes(b"x")
    assert cli.main(["evaluate", "a.epg", "--recipe", "tiny/noise"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "a.epg: 1 234 bytes",
        "test error 1.50 %",
        "10.0 times smaller than the original's fp32 parameters",
    ]


@pytest.mark.parametrize(("command", "stages"), [("train", 1), ("compress", 2)])
def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    command: str, stages: int, pipeline: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([command, "tiny/noise", "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert {name for name, _, _ in pipeline.calls} <= {"check_recipe"}
    assert not Path("runs").exists()
    assert plan["splits"] == {"fit": 48, "control": 8, "validation": 8, "test": 64}
    assert plan["parameters"] == 4 * 8 + 8 + 8 * 2 + 2
    assert [stage["steps"] for stage in plan["stages"]] == [3 * 3, 7 * 3][:stages]
    assert cli.main([command, "tiny/noise", "--dry-run"]) == 0
    assert "about" in capsys.readouterr().out


def test_recipes_are_listed(pipeline: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["recipes"]) == 0
    assert "tiny/noise  accuracy>=0.5  two layers on noise" in capsys.readouterr().out
    assert cli.main(["recipes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "tiny/noise"


USER_CODE = """
import torch
from torch import nn

def build():
    return nn.Linear(4, 2)

def not_a_module():
    return 3

def loaders():
    x = torch.arange(240.0).reshape(60, 4)
    return (x, torch.zeros(60, dtype=torch.long)), (x[:6], torch.ones(6, dtype=torch.long))

def nan():
    return torch.full((60, 4), float("nan")), torch.zeros(60)

number = 3
"""


@pytest.fixture
def user_code(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"user_code_{abs(hash(str(Path.cwd())))}"
    Path(f"{name}.py").write_text(USER_CODE, encoding="utf-8")
    return name


def test_a_users_own_network_becomes_a_recipe(user_code: str, pipeline: Any) -> None:
    save_file({"weight": torch.ones(2, 4), "bias": torch.zeros(2)}, "w.safetensors")
    argv = ["compress", "--model", f"{user_code}:build", "--data", f"{user_code}:loaders"]
    argv += ["--weights", "w.safetensors", "--floor", "accuracy>=0.9"]
    assert cli.main(argv) == 0
    _, (recipe, settings, _), _ = pipeline.calls[0]
    assert settings.plain.epochs == 0, "trained weights are not trained any further"
    splits = recipe.load_data()
    assert [len(part) for part in (splits.fit, splits.control, splits.validation)] == [50, 5, 5]
    assert len(splits.test) == 6
    net = recipe.build()
    assert isinstance(net, nn.Linear)
    assert torch.equal(net.weight, torch.ones(2, 4))


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        ("build", "loaders", "--model: got 'build', expected 'package.module:function'"),
        ("none.such:build", "{}:loaders", "--model: No module named 'none'"),
        ("{}:biuld", "{}:loaders", "has no function 'biuld'"),
        ("{}:number", "{}:loaders", "has no function 'number'"),
        ("{}:build", None, "--model: needs --data"),
        ("{}:build", "{}:loaders", "--floor: missing"),
        (None, None, "expected a recipe"),
    ],
)
def test_wrong_user_code_is_named(
    model: str | None,
    data: str | None,
    message: str,
    user_code: str,
    pipeline: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = ["compress"]
    argv += [] if model is None else ["--model", model.format(user_code)]
    argv += [] if data is None else ["--data", data.format(user_code)]
    assert cli.main(argv) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        ("not_a_module", "loaders", "returned int, expected a torch.nn.Module"),
        ("build", "nan", "example 0 holds nan"),
    ],
)
def test_what_user_code_returns_is_checked(
    model: str,
    data: str,
    message: str,
    user_code: str,
    pipeline: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = ["train", "--model", f"{user_code}:{model}", "--data", f"{user_code}:{data}"]
    assert cli.main([*argv, "--dry-run"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"not safetensors", None])
def test_weights_that_do_not_fit_are_refused(
    content: bytes | None, user_code: str, pipeline: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is None:
        save_file({"weight": torch.ones(3, 4)}, "w.safetensors")
    else:
        Path("w.safetensors").write_bytes(content)
    argv = ["train", "--model", f"{user_code}:build", "--data", f"{user_code}:loaders"]
    assert cli.main([*argv, "--weights", "w.safetensors", "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("epigram: --weights w.safetensors: ")
    assert error.count("\n") == 1


def test_missing_weights_are_refused_by_name(
    user_code: str, pipeline: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["train", "--model", f"{user_code}:build", "--data", f"{user_code}:loaders"]
    assert cli.main([*argv, "--weights", "none.safetensors", "--dry-run"]) == 2
    assert "none.safetensors" in capsys.readouterr().err


def test_a_dry_run_refuses_what_a_run_would_refuse(
    pipeline: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.error = ConfigError("floor: an unknown metric")
    assert cli.main(["compress", "tiny/noise", "--floor", "accurracy>=0.9", "--dry-run"]) == 2
    assert capsys.readouterr().err == "epigram: floor: an unknown metric\n"
    assert str(pipeline.calls[0][1][1]) == "accurracy>=0.9"
