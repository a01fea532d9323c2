"""Every setting is a flag and a line of a config file, and flags win."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from epigram import cli, config


def settings_of(pipeline: Any) -> Any:
    (_, (_, settings, _), _) = pipeline.calls[-1]
    return settings


def test_the_recipes_settings_hold_unless_something_is_said(pipeline: Any) -> None:
    assert cli.main(["compress", "tiny/noise", "--quiet"]) == 0
    assert settings_of(pipeline).structure.epochs == 7


@pytest.mark.parametrize(
    "argv",
    [
        ["tiny/noise", "--structure.epochs", "30", "--plain.logvar_min", "-3"],
        ["--structure.epochs", "30", "tiny/noise", "--plain.logvar-min=-3"],
        ["--structure.epochs=30", "--plain.logvar_min", "-3", "tiny/noise"],
    ],
)
def test_flags_may_stand_anywhere(argv: list[str], pipeline: Any) -> None:
    assert cli.main(["compress", *argv]) == 0
    settings = settings_of(pipeline)
    assert (settings.structure.epochs, settings.plain.logvar_min) == (30, -3.0)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--plain.clamp", "false"], False),
        (["--plain.clamp"], True),
        (["--plain.clamp", "--json"], True),
    ],
)
def test_a_flag_without_a_value_means_true(argv: list[str], expected: bool, pipeline: Any) -> None:
    assert cli.main(["train", "tiny/noise", "--config", _file("plain: {clamp: false}"), *argv]) == 0
    assert settings_of(pipeline).plain.clamp is expected


def test_flags_win_over_the_file_and_the_file_over_the_recipe(pipeline: Any) -> None:
    path = _file("seed: 4\nstructure:\n  epochs: 20\n  batch_size: 32\nplain.logvar_min: 1e-3\n")
    assert cli.main(["compress", "tiny/noise", "--config", path, "--structure.epochs", "9"]) == 0
    settings = settings_of(pipeline)
    assert (settings.seed, settings.structure.epochs, settings.structure.batch_size) == (4, 9, 32)
    assert settings.plain.logvar_min == 1e-3
    assert cli.main(["compress", "tiny/noise", "--config", path, "--seed", "2"]) == 0
    assert settings_of(pipeline).seed == 2


def test_what_print_config_prints_can_be_given_back(
    pipeline: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compress", "tiny/noise", "--plain.epochs", "11", "--print-config"]) == 0
    assert pipeline.calls == []
    assert cli.main(["compress", "tiny/noise", "--config", _file(capsys.readouterr().out)]) == 0
    assert settings_of(pipeline).plain.epochs == 11


def test_a_runs_own_config_json_can_be_given_back(pipeline: Any) -> None:
    path = _file('{"identity": "abc", "config": {"settings": {"plain": {"epochs": 12}}}}')
    assert cli.main(["compress", "tiny/noise", "--config", path]) == 0
    assert settings_of(pipeline).plain.epochs == 12


def test_help_with_a_recipe_lists_every_setting_with_its_value(
    pipeline: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compress", "tiny/noise", "--help"]) == 0
    page = capsys.readouterr().out
    for key in config.dotted_keys(type(settings_of_recipe())):
        assert f"--{key} " in page
    assert "--structure.epochs 7   (int)" in page
    assert "passes over the training examples." in page
    assert pipeline.calls == []


def settings_of_recipe() -> Any:
    from epigram import recipes

    return recipes.get("tiny/noise").settings


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["--structure.epchs", "3"],
            "unknown flag '--structure.epchs'; did you mean '--structure.ep",
        ),
        (["--epochs", "3"], "unknown flag '--epochs'; did you mean '--"),
        (["--floorr", "x"], "unknown flag '--floorr'; did you mean '--floor'?"),
        (["--nonsense", "x"], "unknown flag '--nonsense'; epigram compress --help lists the"),
        (["--structure", "3"], "--structure is a section"),
        (["--structure.epochs", "x"], "structure.epochs: got 'x', expected int"),
        (["--seed", "x"], "seed: got 'x', expected int"),
        (["--floor", "acc"], "floor: got 'acc', expected 'metric>=value'"),
        (["--max-minutes", "0"], "--max-minutes: got '0', expected a number above 0"),
        (["--from", "none"], "--from none: no such folder"),
        (["--config", "none.yaml"], "config file none.yaml: cannot be read"),
        (["--model", "a:b"], "got both a recipe (tiny/noise) and --model"),
        (["--weights", "w"], "--weights: goes with --model"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_runs(
    argv: list[str], message: str, pipeline: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compress", "tiny/noise", *argv]) == 2
    assert message in capsys.readouterr().err
    assert pipeline.calls == []


def test_a_wrong_key_in_the_file_is_answered_with_the_right_one(
    pipeline: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _file("structure:\n  bach_size: 3\n")
    assert cli.main(["compress", "tiny/noise", "--config", path]) == 2
    assert "did you mean 'structure.batch_size'?" in capsys.readouterr().err


def test_an_unknown_recipe_is_answered_with_the_nearest(
    pipeline: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compress", "tiny/nois"]) == 2
    assert "unknown recipe 'tiny/nois'; did you mean 'tiny/noise'?" in capsys.readouterr().err


def _file(content: str) -> str:
    Path("run.yaml").write_text(content, encoding="utf-8")
    return "run.yaml"
