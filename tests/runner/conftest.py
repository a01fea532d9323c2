"""Every test of this room has a study of its own, and leaves nothing of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.runner.hostile import alive, wait_for

from epigram.runner import cgroups


@pytest.fixture
def study(tmp_path: Path) -> str:
    """A name that no other test has, also of those that run at the same time."""
    return str(tmp_path)


@pytest.fixture(autouse=True)
def _nothing_is_left(tmp_path: Path) -> Iterator[None]:
    """Neither a process nor a control group."""
    yield
    study = str(tmp_path)
    wait_for(lambda: not alive(study), "no process of the test lives", 10.0)
    assert not cgroups.of_study(study)
