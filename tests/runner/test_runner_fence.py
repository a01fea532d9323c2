"""An attempt that was given up cannot write over its successor's work."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.runner.hostile import end_of, executor_of, job, start

from epigram.errors import ConfigError, FencedError, HeldError, StorageError
from epigram.runner import Fence, fence


def write(path: Path, text: str, fenced: Fence) -> None:
    """As a trial shall write a checkpoint: beside, then rename while it holds the fence."""
    beside = path.with_name(f"{path.name}.{fenced.attempt}")
    beside.write_text(text)
    with fenced.held():
        beside.replace(path)


def test_a_forgotten_attempt_is_fenced_off(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    first = fence.claim(tmp_path, 1)
    write(checkpoint, "one", first)
    second = fence.claim(tmp_path, 2)
    write(checkpoint, "two", second)
    with pytest.raises(FencedError, match="attempt 2 has begun, this is attempt 1"):
        write(checkpoint, "late", first)
    assert checkpoint.read_text() == "two"
    assert not first.holds()
    assert second.holds()


@pytest.mark.parametrize("attempt", [1, 2])
def test_an_attempt_begins_once_and_in_order(tmp_path: Path, attempt: int) -> None:
    fence.claim(tmp_path, 2)
    with pytest.raises(ConfigError, match=f"attempt {attempt} cannot begin.*use 3"):
        fence.claim(tmp_path, attempt)
    assert fence.latest(tmp_path) == 2


def test_numbers_of_all_lengths(tmp_path: Path) -> None:
    for attempt in (1, 9, 10, 99, 100):
        fence.claim(tmp_path, attempt)
        assert fence.latest(tmp_path) == attempt


def test_without_a_folder_there_is_no_fence(tmp_path: Path) -> None:
    assert fence.latest(tmp_path / "nowhere") == 0
    with pytest.raises(StorageError, match="is the run's folder there"):
        fence.claim(tmp_path / "nowhere", 1)


def test_a_trial_finds_its_fence_in_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EPIGRAM_RUN_DIR", raising=False)
    monkeypatch.delenv("EPIGRAM_ATTEMPT", raising=False)
    assert Fence.from_environment() is None
    monkeypatch.setenv("EPIGRAM_RUN_DIR", str(tmp_path))
    monkeypatch.setenv("EPIGRAM_ATTEMPT", "3")
    assert Fence.from_environment() == Fence(tmp_path, 3)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[int]:
    """An attempt that holds its fence and does not go on, as when it was sent SIGSTOP."""
    run = tmp_path / "a"
    run.mkdir()
    fence.claim(run, 1)
    descriptor = os.open(run / "attempt", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    yield descriptor
    os.close(descriptor)


def test_a_fence_that_is_held_is_not_waited_for_without_end(
    tmp_path: Path, holder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fence, "WAIT_S", 0.2)
    began = time.monotonic()
    with pytest.raises(HeldError, match=r"held by another attempt.*is 1\) for more than 0.2 s"):
        fence.claim(tmp_path / "a", 2)
    assert time.monotonic() - began < 5.0
    assert fence.latest(tmp_path / "a") == 1
    fcntl.flock(holder, fcntl.LOCK_UN)
    assert fence.claim(tmp_path / "a", 2).holds()


@pytest.mark.usefixtures("holder")
def test_a_slot_stays_free_where_the_fence_is_held(
    study: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fence, "WAIT_S", 0.2)
    with executor_of(study) as executor:
        free = [slot.id for slot in executor.slots()]
        with pytest.raises(HeldError):
            start(executor, job(tmp_path, ("true",), attempt=2))
        assert [slot.id for slot in executor.slots()] == free
        start(executor, job(tmp_path, ("true",), "b"))
        assert end_of(executor).code == 0


def test_starting_an_attempt_claims_it(study: str, tmp_path: Path) -> None:
    with executor_of(study) as executor:
        start(executor, job(tmp_path, ("true",), attempt=4))
        end_of(executor)
        assert fence.latest(tmp_path / "a") == 4
        with pytest.raises(ConfigError, match="use 5"):
            start(executor, job(tmp_path, ("true",), attempt=3))
