"""The figures of the killed drivers are what the rows say, and torn rows do not count."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import kills


@pytest.mark.parametrize(
    ("count", "p50", "p99"), [(1, 1, 1), (2, 1, 2), (100, 50, 99), (1000, 500, 990)]
)
def test_quantiles_are_values_that_were_seen(count: int, p50: float, p99: float) -> None:
    told = kills.quantiles([float(i) for i in range(count, 0, -1)])
    assert abs(told["p50"] - p50) <= 1
    assert (told["p99"], told["max"], told["n"]) == (p99, count, count)


def test_a_torn_row_is_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "kills.jsonl"
    assert kills.read_rows(path) == []
    kills.append(path, {"number": 0})
    with path.open("a") as file:
        file.write('{"number": 1, "le')
    assert kills.read_rows(path) == [{"number": 0}]
    kills.append(path, {"number": 1})
    kills.append(path, {"number": 2})
    assert kills.read_rows(path) == [{"number": 0}, {"number": 2}]


def test_figures_tell_the_kinds_of_kills_apart() -> None:
    rows = [
        {"torch": torch, "ready": ready, "live": 30, "left": left, "seconds": 0.1, "load": 1.0}
        for torch, ready, left in ((False, 4, 0), (False, 1, 0), (True, 4, 2))
    ]
    told = kills.figures(rows, [])
    assert told["all"]["kills"] == 3
    assert told["all"]["processes_before"] == 90
    assert told["all"]["processes_left"] == told["with_torch"]["processes_left"] == 2
    assert told["while_starting"]["kills"] == 1


def test_every_driver_has_a_mark_of_its_own(tmp_path: Path) -> None:
    marks = {kills.mark_of(tmp_path / str(i)) for i in range(100)}
    assert len(marks) == 100
    assert all(86400 <= float(mark) < 86401 for mark in marks)
