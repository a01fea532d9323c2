from __future__ import annotations

from pathlib import Path

import pytest
from tests.pipeline.tiny_recipe import recipe

from epigram import report
from epigram.pipeline import compress_recipe


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page takes seconds and has tests of its own."""
    monkeypatch.setattr(report, "build", lambda folder: None)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A finished run, with its report."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    return folder, compress_recipe(recipe(), folder=folder, progress=None, keep_posterior=True)
