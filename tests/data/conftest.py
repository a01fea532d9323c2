"""No data anywhere, and nothing written into the caller's home."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from epigram.data import places


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No data anywhere: no variable, no clone, an empty home, no torchvision."""
    monkeypatch.delenv("EPIGRAM_DATA", raising=False)
    monkeypatch.setattr(places, "clone_data", list)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    return tmp_path
