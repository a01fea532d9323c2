"""The example in the documentation runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import epigram.runner
from epigram.runner import LocalExecutor

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "runner.md").read_text(encoding="utf-8")


def test_the_example_of_the_runner_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    run = tmp_path / "study" / "width-32"
    run.mkdir(parents=True)
    (run / "train.py").write_text("raise SystemExit('no data')")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(block.replace("poll(5.0)", "poll(60.0)").replace('"my study"', repr(str(tmp_path))), names)
    assert isinstance(names["executor"], LocalExecutor)
    assert capsys.readouterr().out == "width-32 exit 1 returned 1; no data\n"


@pytest.mark.parametrize("name", epigram.runner.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(epigram.runner, name)
    assert value.__doc__ or name == "Reason"


def test_the_page_tells_all_reasons() -> None:
    reasons = epigram.runner.Reason.__args__  # type: ignore[attr-defined]
    told = re.findall(r"`([a-z-]+)`", " ".join(re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)))
    assert set(reasons) <= set(told)
