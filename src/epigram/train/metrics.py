"""``metrics.jsonl``: one JSON object per epoch, each exactly once."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from epigram import atomic
from epigram.errors import StorageError


def read_metrics(path: Path, *, stage: str | None = None) -> list[dict[str, Any]]:
    """The lines of a metrics file, of one stage or of all. A torn last line is left out."""
    if not path.exists():
        return []
    records = [record for _, record in _parsed(path.read_bytes())]
    return [r for r in records if stage is None or r.get("stage") == stage]


def append_metrics(path: Path, record: Mapping[str, Any]) -> None:
    """Add one line, on the disk when this returns. NaN and infinities are written as null.

    Raises:
        StorageError: the disk is full; the file is as it was.
    """
    with atomic.permitted():
        _append(path, record)


def _append(path: Path, record: Mapping[str, Any]) -> None:
    line = json.dumps(_finite(record), allow_nan=False, separators=(",", ":")) + "\n"
    before = path.stat().st_size if path.exists() else 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if path.exists() and path.stat().st_size > before:
            os.truncate(path, before)
        raise StorageError(error.errno, f"could not write {path}: {error.strerror}") from error


def drop_after(path: Path, *, stage: str, epoch: int) -> None:
    """Forget what ``stage`` logged after ``epoch``, and any torn line: they will be redone."""
    if not path.exists():
        return
    before = path.read_bytes()
    kept = b"".join(
        line
        for line, record in _parsed(before)
        if record.get("stage") != stage or record.get("epoch", 0) <= epoch
    )
    if kept != before:
        atomic.write_bytes(path, kept)


def _parsed(data: bytes) -> list[tuple[bytes, dict[str, Any]]]:
    parsed = []
    for line in data.splitlines(keepends=True):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and line.endswith(b"\n"):
            parsed.append((line, record))
    return parsed


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
