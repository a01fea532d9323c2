"""The real pipeline behind the commands, on a user's own tiny network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from epigram import cli

CODE = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))

def loaders():
    x = torch.randn(1400, 6, generator=torch.Generator().manual_seed(1))
    y = (x[:, 0] > 0).long()
    return (x[:1200], y[:1200]), (x[1200:], y[1200:])
"""
QUICK = [
    "--plain.epochs=5",
    "--plain.learning_rate=0.02",
    "--structure.epochs=3",
    "--finetune.epochs=2",
    *(f"--{stage}.tensorboard=false" for stage in ("plain", "structure", "finetune")),
    "--quiet",
]
OWN = ["--model", "end_to_end_user_code:build", "--data", "end_to_end_user_code:loaders"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("end_to_end")
    (path / "end_to_end_user_code.py").write_text(CODE, encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def run(command: str, out: str, *more: str) -> int:
    return cli.main([command, *OWN, "--out", out, *QUICK, *more])


@pytest.mark.slow
def test_a_file_is_made_kept_and_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compress", "runs/b", "--floor", "accuracy>=0.9", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    file = Path("runs/b/model.epg")
    assert result["file_bytes"] == file.stat().st_size
    assert result["ratio"] == pytest.approx(result["dense_bytes"] / file.stat().st_size, abs=1e-3)
    assert result == json.loads(Path("runs/b/result.json").read_text(encoding="utf-8"))
    assert Path("runs/b/report/index.html").is_file()

    assert cli.main(["inspect", str(file), "--json"]) == 0
    inspected = json.loads(capsys.readouterr().out)
    assert sum(inspected["recorded_breakdown"].values()) == file.stat().st_size

    assert cli.main(["evaluate", str(file), *OWN, "--json"]) == 0
    evaluated = json.loads(capsys.readouterr().out)
    for figure in ("file_bytes", "test_error_percent", "ratio"):
        assert evaluated[figure] == result[figure]

    written = file.stat().st_mtime_ns
    assert run("compress", "runs/b", "--floor", "accuracy>=0.9", "--json") == 0
    assert json.loads(capsys.readouterr().out) == result, "a finished run is read, not run again"
    assert file.stat().st_mtime_ns == written

    assert run("compress", "runs/b", "--floor", "accuracy>=0.9", "--finetune.epochs", "1") == 2
    refusal = capsys.readouterr().err
    assert "finetune.epochs: 2 there, 1 now" in refusal
    assert refusal.count("\n") == 1
    assert file.stat().st_mtime_ns == written


@pytest.mark.slow
def test_a_floor_out_of_reach_is_2_and_with_force_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "runs/a") == 0
    more = ("--from", "runs/a", "--floor", "nll<=0.0001")
    assert run("compress", "runs/c", *more) == 2
    assert "asks for more than the plain network reaches: nll 0." in capsys.readouterr().err
    assert run("compress", "runs/d", *more, "--force") == 3
    assert "could not be met" in capsys.readouterr().err
    assert Path("runs/d/model.epg").is_file()
    assert cli.main(["compare", "runs/a", "runs/d", "--out", "runs/cmp"]) == 0
    assert cli.main(["report", "runs/a"]) == 0


@pytest.mark.slow
def test_a_run_that_is_out_of_time_is_130_and_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    floor = ("--floor", "accuracy>=0.9")
    assert run("compress", "runs/e", *floor, "--max-minutes", "1e-6") == 130
    assert capsys.readouterr().err.count("\n") == 1
    assert run("compress", "runs/e", *floor) == 0
    assert Path("runs/e/model.epg").is_file()
