"""Which containment there is is tried out, and trying leaves nothing behind."""

from __future__ import annotations

import os

import pytest
from tests.runner.hostile import executor_of, needs

from epigram.errors import ConfigError
from epigram.runner import cgroups, containment


def test_the_best_that_works_is_chosen_and_the_better_ones_have_reasons() -> None:
    found = containment.probe()
    better = containment.LEVELS[: containment.LEVELS.index(found.level)]
    assert tuple(found.refused) == better
    assert all(found.refused.values())
    assert containment.chosen(None) == found.level
    assert str(found).startswith(found.level)


def test_what_cannot_be_had_is_refused(study: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "refusal", lambda: "not ours to write")
    with pytest.raises(ConfigError, match="containment cgroup: not ours to write"):
        executor_of(study, level="cgroup")
    with pytest.raises(ConfigError, match="expected one of cgroup, namespace"):
        executor_of(study, level="jail")  # type: ignore[arg-type]


@needs("cgroup")
def test_a_probe_that_was_killed_is_cleaned_up() -> None:
    base = cgroups.own_group()
    assert base is not None
    dead, living = base / "epigram-probe-4194305-1", base / f"epigram-probe-{os.getpid()}-1"
    dead.mkdir()
    living.mkdir()
    try:
        assert cgroups.refusal() is None
        assert not dead.exists(), "no pid is as large as that"
        assert living.exists()
    finally:
        living.rmdir()
