"""Files of networks that a search has made narrower are read by ``epigram evaluate``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from epigram import artifact, cli, recipes
from epigram.pipeline import api


@pytest.fixture
def narrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a LeNet-300-100 that has 30 and 10 units; the test set is taken away."""
    monkeypatch.setattr(api, "evaluate", lambda model, *_, **__: pytest.fail(str(sizes(model))))
    recipe = recipes.with_widths(recipes.get("lenet-300-100/mnist"), {"fc1": 30, "fc2": 10})
    torch.manual_seed(0)
    artifact.save(recipe.build(), tmp_path / "model.epg")
    return tmp_path / "model.epg"


def sizes(model: torch.nn.Module) -> list[tuple[int, ...]]:
    return [tuple(t.shape) for t in model.parameters()]


def evaluated(path: Path, *more: str) -> str:
    """The exit code; a file that can be read ends the test with the shapes of its network."""
    code = cli.main(["evaluate", str(path), "--recipe", "lenet-300-100/mnist", *more])
    return f"exit {code}"


def test_widths_come_from_the_flag_or_from_beside_the_winner(
    narrow: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluated(narrow) == "exit 2"
    assert "pass the class the file was made from" in capsys.readouterr().err
    for more in (("--widths", "fc1=30,fc2=10"), ()):
        if not more:
            note = {"widths": {"fc1": 30, "fc2": 10}}
            (narrow.parent / "result.json").write_text(json.dumps(note))
        with pytest.raises(pytest.fail.Exception, match=r"\(30, 784\), \(30,\), \(10, 30\)"):
            evaluated(narrow, *more)


@pytest.mark.parametrize("text", ["fc1", "fc1=many", "=3", "fc9=3"])
def test_widths_that_are_none_are_refused(
    narrow: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluated(narrow, "--widths", text) == "exit 2"
    assert "widths" in capsys.readouterr().err
