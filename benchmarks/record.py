"""How results are written: JSON that says what was measured, with what, when, and by which command.

Every benchmark captures an ``origin`` when it starts and hands it back with its figures. Files are
judged by their bytes: *the median* of several seeds is the run whose file has the median size, and the
error beside it is that file's.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import torch

from epigram import atomic

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
TEST_READS = ROOT / "benchmarks" / "test_reads.jsonl"

_PACKAGES = ("epigram", "torch", "numpy", "numba", "constriction")
_CODE = ("src", "data", "benchmarks", "pyproject.toml")
_NOT_CODE = ("benchmarks/results", "benchmarks/test_reads.jsonl")

Run = TypeVar("Run", bound=Mapping[str, Any])


def origin(
    *, seeds: Sequence[int], argv: Sequence[str] | None = None, packages: Sequence[str] = ()
) -> dict[str, Any]:
    """What ran: commit, date (UTC), command, versions (of more ``packages`` too), threads, seeds.

    Take it before measuring.
    """
    return {
        **code_version(),
        "date": now(),
        "command": command_line(sys.argv if argv is None else argv),
        "versions": {**versions(), **{name: _version(name) for name in packages}},
        "platform": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "seeds": list(seeds),
    }


def write_result(
    name: str, about: Mapping[str, Any], figures: Mapping[str, Any], *, folder: Path = RESULTS
) -> Path:
    """Write ``<folder>/<name>.json``, whole or not at all; returns its path.

    Args:
        name: of the benchmark.
        about: its ``origin``.
        figures: what was measured. NaN and infinity are refused: say what they stand for instead.
        folder: where results go.

    Raises:
        ValueError: a figure is not finite, or ``figures`` would hide a key of ``about``.
    """
    hidden = sorted(({"benchmark"} | about.keys()) & figures.keys())
    if hidden:
        raise ValueError(f"write_result: figures may not use the keys {hidden} of the origin")
    path = folder / f"{name}.json"
    atomic.write_json(path, {"benchmark": name, **about, **figures})
    return path


def summary(values: Sequence[float]) -> dict[str, float | int]:
    """Median, least, largest and number of some figures.

    Raises:
        ValueError: there are none.
    """
    if not values:
        raise ValueError("summary: got no figures, expected at least one")
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "n": len(values),
    }


def median_by_bytes(runs: Sequence[Run]) -> Run:
    """The run whose ``file_bytes`` is the median; the smaller file of the middle two of an even number.

    Equal sizes are told apart by ``seed``, so that the choice is always the same.

    Raises:
        ValueError: there are no runs.
    """
    if not runs:
        raise ValueError("median_by_bytes: got no runs, expected at least one")
    ordered = sorted(runs, key=lambda run: (run["file_bytes"], run["seed"]))
    return ordered[(len(ordered) - 1) // 2]


def record_test_read(
    *,
    recipe: str,
    seed: int,
    figure: Mapping[str, float | None],
    code: Mapping[str, Any] | None = None,
    path: Path = TEST_READS,
) -> None:
    """Append one line: the test set was read. The line is on the disk when this returns.

    Args:
        recipe: whose network was judged.
        seed: of the run.
        figure: what was read off, by name.
        code: ``code_version()`` of the run that read it; None = of the code as it is now.
        path: the log, part of the repository.
    """
    line = {
        "date": now(),
        **(code_version() if code is None else code),
        "recipe": recipe,
        "seed": seed,
        "figure": dict(figure),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def code_version() -> dict[str, str | bool | None]:
    """``commit``, and ``dirty``: does any code differ from it? Both None outside a clone."""
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--", *_CODE, *(f":(exclude){p}" for p in _NOT_CODE))
    return {"commit": commit or None, "dirty": None if changes is None else bool(changes)}


def command_line(argv: Sequence[str]) -> str:
    """The command as one types it in the repository's root."""
    words = [word.removeprefix(f"{ROOT}{os.sep}") for word in argv]
    return shlex.join(["python", *words])


def versions() -> dict[str, str | None]:
    """Of Python and of what the figures depend on."""
    return {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}}


def now() -> str:
    """Date and time, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(*words: str) -> str | None:
    """What git says; None where there is no git or no clone."""
    try:
        done = subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
