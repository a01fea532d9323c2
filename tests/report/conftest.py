"""Fixtures of the report's tests: synthetic runs, written and built once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # fake_run and chromium_pipe lie beside the tests


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of a finished run, of a convolutional run that missed its floor, of a plain run."""
    import fake_run

    root = tmp_path_factory.mktemp("runs")
    return {
        "mlp": fake_run.write_mlp(root / "mlp", epochs=6),
        "convnet": fake_run.write_convnet(root / "convnet", epochs=4),
        "plain": fake_run.write_plain(root / "plain", epochs=4),
    }


@pytest.fixture(scope="session")
def pages(runs: dict[str, Path]) -> dict[str, Path]:
    """The page of each run."""
    from epigram import report

    return {name: report.build(folder) for name, folder in runs.items()}
