"""The contract with a training script of any framework: one file in, two files out.

A trial's folder has ``config.json``; the script adds ``metrics.jsonl`` while it trains (a JSON object a
line, with ``step``, ``steps``, the metric and the size) and ``result.json`` in the end (``run_id`` and
``attempt`` as they stand in ``config.json``, the metric, the size).

``runs/<run_id>/`` belongs to the run and its checkpoints; ``runs/<run_id>/attempt-0001/`` to one attempt,
whose number is a token: an attempt that is not the latest any more writes into its own folder only, where
nobody looks, and ``epigram.runner.Fence`` keeps it from the run's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from epigram.config import differences
from epigram.errors import RunFolderError, StorageError
from epigram.search.history import Outcome, Point
from epigram.search.objective import Objective

CONFIG: Final = "config.json"
METRICS: Final = "metrics.jsonl"
RESULT: Final = "result.json"
_LARGEST_RESULT = 1 << 20
_LARGEST_READ = 1 << 20


def attempt_folder(run: Path, attempt: int) -> Path:
    """Where one attempt reads and writes."""
    return run / f"attempt-{attempt:04d}"


def claim(run: Path, config: Mapping[str, Any]) -> None:
    """Make the run's folder, or find it with this very configuration.

    Raises:
        RunFolderError: it holds another configuration; nothing is overwritten.
        StorageError: it cannot be written.
    """
    path = run / CONFIG
    text = _text(config)
    try:
        run.mkdir(parents=True)
    except FileExistsError:
        stored = (path.read_text("utf-8").strip("\0") or None) if path.is_file() else None
        if stored is not None and stored != text:
            raise RunFolderError(
                f"{run} belongs to a run with another configuration ({_told(stored, config)}); "
                "nothing was overwritten. Choose another folder for the study"
            ) from None
        if stored is not None:
            return
    except OSError as error:
        raise StorageError(error.errno, f"could not make {run}: {error.strerror}") from error
    _write(path, text)


def prepare_attempt(run: Path, config: Mapping[str, Any], attempt: int) -> Path:
    """The folder of a new attempt, with its ``config.json``.

    Raises:
        StorageError: it cannot be written.
    """
    folder = attempt_folder(run, attempt)
    shared = {"attempt": attempt, "run_folder": str(run.resolve())}
    _write(folder / CONFIG, _text({**config, **shared}))
    return folder


class MetricsTail:
    """New points of a ``metrics.jsonl`` that somebody else is writing; garbage is counted, not raised."""

    def __init__(self, path: Path, objective: Objective) -> None:
        self.path = path
        self.objective = objective
        self.garbage = 0
        self.first_garbage = ""
        self.steps: int | None = None
        """How many steps the trial says it will take."""
        self._offset = 0
        self._last_step = -1

    def read(self) -> list[Point]:
        """The points since the last call. A line without its newline waits for the next."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                content = file.read(_LARGEST_READ)
        except OSError:
            return []
        end = content.rfind(b"\n") + 1
        if not end and len(content) == _LARGEST_READ:  # a line that never ends
            end = len(content)
        self._offset += end
        points = []
        for line in content[:end].splitlines():
            point = self._point(line)
            if point is not None:
                points.append(point)
        return points

    def _point(self, line: bytes) -> Point | None:
        try:
            data = json.loads(line)
            step = data["step"]
            if type(step) is not int or step <= self._last_step:
                raise ValueError
        except (ValueError, KeyError, TypeError, RecursionError):
            self.garbage += 1
            self.first_garbage = self.first_garbage or line[:80].decode("utf-8", "replace")
            return None
        self._last_step = step
        if type(data.get("steps")) is int:
            self.steps = data["steps"]
        return Point(
            step,
            _number(data.get(self.objective.floor.metric)),
            _number(data.get(self.objective.size_key)),
            data.get("warmup") is True,
        )


def read_result(folder: Path, run_id: str, attempt: int, objective: Objective) -> Outcome:
    """What an attempt says of itself. Never raises: what is wrong with it is in ``note``, one line."""
    path = folder / RESULT
    try:
        size = path.stat().st_size
        if size > _LARGEST_RESULT:
            return _failed(f"{RESULT} has {size} bytes, expected at most {_LARGEST_RESULT}")
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        return _failed(f"it wrote no {RESULT}")
    except OSError as error:
        return _failed(f"{RESULT} cannot be read: {error.strerror}")
    except (ValueError, RecursionError) as error:
        return _failed(f"{RESULT} is not JSON: {error}")
    if not isinstance(data, dict):
        return _failed(f"{RESULT}: got {type(data).__name__}, expected an object with keys")
    if data.get("run_id") != run_id:
        return _failed(f"{RESULT} is of run {data.get('run_id')!r}, expected {run_id!r}")
    if data.get("attempt") != attempt:
        return _failed(f"{RESULT} is of attempt {data.get('attempt')!r}, expected {attempt}")
    return _outcome(data, objective)


def _outcome(data: Mapping[str, Any], objective: Objective) -> Outcome:
    name, key = objective.floor.metric, objective.size_key
    for wanted in (name, key):
        if wanted not in data:
            return _failed(f"{RESULT} has no {wanted!r}; it has {', '.join(sorted(data)[:8])}")
    metric, size = data[name], data[key]
    if metric is None or _is_nan(metric) or size is None or _is_nan(size):
        return Outcome("diverged", note=f"{RESULT}: {name} is {metric}, {key} is {size}")
    if not _is_finite(metric):
        return _failed(f"{RESULT}: {name} is {metric!r}, expected a finite number")
    if not _is_finite(size) or size <= 0:
        return _failed(f"{RESULT}: {key} is {size!r}, expected a number above 0")
    examples = data.get("examples")
    confirmation, file = data.get("confirmation"), data.get("file")
    return Outcome(
        "finished",
        float(metric),
        float(size),
        examples=examples if type(examples) is int and examples > 0 else None,
        confirmation=confirmation if isinstance(confirmation, dict) else None,
        file=file if isinstance(file, str) else None,
        dense_size=_number(data.get("dense_bytes")),
    )


def _failed(note: str) -> Outcome:
    return Outcome("failed", note=" ".join(note.split())[:300])


def _is_finite(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _number(value: object) -> float | None:
    return float(value) if _is_finite(value) else None  # type: ignore[arg-type]


def _write(path: Path, text: str) -> None:
    """Whole or not at all, but not flushed to the disk: the ledger can make it again.

    Raises:
        StorageError: it cannot be written.
    """
    beside = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise StorageError(error.errno, f"could not write {path}: {error.strerror}") from error


def _text(config: Mapping[str, Any]) -> str:
    return json.dumps(config, indent=2, sort_keys=True, allow_nan=False) + "\n"


def _told(stored: str, config: Mapping[str, Any]) -> str:
    try:
        found = differences(json.loads(stored), json.loads(_text(config)))
    except (ValueError, AttributeError):
        return f"its {CONFIG} is not JSON"
    return "; ".join(f"{k}: {a!r} there, {b!r} now" for k, (a, b) in list(found.items())[:4])
