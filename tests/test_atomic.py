"""Atomic writes: whole or not at all, and a full disk is a StorageError."""

from __future__ import annotations

import contextlib
import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from epigram import atomic
from epigram.errors import StorageError


@contextlib.contextmanager
def _files_limited_to(size_bytes: int) -> Iterator[None]:
    """The kernel refuses to let any file grow further: what a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_bytes_text_and_json_are_read_back(tmp_path: Path) -> None:
    atomic.write_bytes(tmp_path / "deep" / "er" / "a.bin", b"\x00\xffabc")
    atomic.write_text(tmp_path / "a.txt", "Größe\n")
    atomic.write_json(tmp_path / "a.json", {"b": [1, 2.5, None], "a": "é"})
    assert (tmp_path / "deep" / "er" / "a.bin").read_bytes() == b"\x00\xffabc"
    assert (tmp_path / "a.txt").read_bytes() == "Größe\n".encode()
    text = (tmp_path / "a.json").read_text("utf-8")
    assert json.loads(text) == {"b": [1, 2.5, None], "a": "é"}
    assert text.index('"b"') < text.index('"a"')


def test_a_full_disk_leaves_the_previous_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    atomic.write_bytes(path, b"old" * 10)
    with _files_limited_to(4096), pytest.raises(StorageError, match=r"checkpoint\.pt") as caught:
        atomic.write_bytes(path, bytes(100_000))
    assert caught.value.exit_code == 5
    assert path.read_bytes() == b"old" * 10
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_full_disk_noticed_only_by_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    atomic.write_bytes(path, b"old")

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError, match="No space left"):
        atomic.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_an_exception_in_the_block_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a"
    atomic.write_text(path, "old")

    def half_way() -> None:
        with atomic.replacing(path, "w") as file:
            file.write("new")
            raise KeyError("mine")

    with pytest.raises(KeyError):
        half_way()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_json_that_cannot_be_said_is_refused_before_writing(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    atomic.write_json(path, {"x": 1})
    with pytest.raises(ValueError, match="JSON"):
        atomic.write_json(path, {"x": float("nan")})
    with pytest.raises(TypeError):
        atomic.write_json(path, {"x": object()})
    assert json.loads(path.read_text()) == {"x": 1}


def test_a_folder_in_the_way_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(StorageError):
        atomic.write_bytes(tmp_path / "a", b"x")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        atomic.write_bytes(tmp_path / "file" / "below", b"x")


def test_permissions_are_kept_and_new_files_follow_the_umask(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_bytes(b"")
    old.chmod(0o640)
    previous = os.umask(0o027)
    try:
        atomic.write_bytes(old, b"x")
        atomic.write_bytes(tmp_path / "new", b"x")
    finally:
        os.umask(previous)
    assert old.stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640
