"""What trials write: garbage, NaN, nothing, or another trial's result, each answered in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from epigram.records import Floor
from epigram.search import Objective, folder

OBJECTIVE = Objective(Floor.parse("accuracy>=0.9"))
GOOD = {"run_id": "a", "attempt": 2, "accuracy": 0.95, "size_bytes": 1200}


def read(where: Path, content: object) -> Any:
    text = content if isinstance(content, str) else json.dumps(content)
    (where / "result.json").write_text(text)
    return folder.read_result(where, "a", 2, OBJECTIVE)


def test_a_good_result_is_read(tmp_path: Path) -> None:
    outcome = read(tmp_path, {**GOOD, "examples": 50, "file": "x.epg", "confirmation": {"n": 1}})
    assert (outcome.kind, outcome.metric, outcome.size) == ("finished", 0.95, 1200.0)
    assert (outcome.examples, outcome.file, outcome.confirmation) == (50, "x.epg", {"n": 1})
    assert not outcome.imputed


@pytest.mark.parametrize(
    ("content", "kind", "says"),
    [
        ("Segmentation fault", "failed", "is not JSON"),
        ("", "failed", "is not JSON"),
        ("[" * 100_000, "failed", "is not JSON"),
        ("[1, 2]", "failed", "got list, expected an object"),
        ({**GOOD, "run_id": "b"}, "failed", "is of run 'b', expected 'a'"),
        ({**GOOD, "attempt": 1}, "failed", "is of attempt 1, expected 2"),
        ({k: v for k, v in GOOD.items() if k != "accuracy"}, "failed", "has no 'accuracy'"),
        ({k: v for k, v in GOOD.items() if k != "size_bytes"}, "failed", "has no 'size_bytes'"),
        ({**GOOD, "size_bytes": -1}, "failed", "size_bytes is -1, expected a number above 0"),
        ({**GOOD, "accuracy": "high"}, "failed", "accuracy is 'high', expected a finite number"),
        ({**GOOD, "accuracy": True}, "failed", "accuracy is True"),
        ({**GOOD, "size_bytes": 10**400}, "failed", "size_bytes is 1000"),
        ({**GOOD, "accuracy": float("nan")}, "diverged", "accuracy is nan"),
        ({**GOOD, "accuracy": None}, "diverged", "accuracy is None"),
        ({**GOOD, "accuracy": float("inf")}, "failed", "accuracy is inf"),
        (" " * (1 << 20) + "{}", "failed", "expected at most"),
    ],
    ids=[
        "garbage", "empty", "nested", "list", "other-run", "other-attempt", "no-metric", "no-size",
        "negative", "text", "boolean", "huge", "nan", "null", "infinite", "long",
    ],
)  # fmt: skip
def test_a_bad_result_is_one_line(content: object, kind: str, says: str, tmp_path: Path) -> None:
    outcome = read(tmp_path, content)
    assert outcome.kind == kind
    assert says in outcome.note
    assert "\n" not in outcome.note
    assert len(outcome.note) <= 300
    assert outcome.metric is None
    assert outcome.imputed


def test_no_result_is_one_line(tmp_path: Path) -> None:
    assert folder.read_result(tmp_path, "a", 1, OBJECTIVE).note == "it wrote no result.json"


def test_a_curve_is_read_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = folder.MetricsTail(path, OBJECTIVE)
    assert tail.read() == []
    path.write_text('{"step": 1, "accuracy": 0.5, "steps": 9}\n{"step": 2, "acc')
    assert [(p.step, p.metric, p.size) for p in tail.read()] == [(1, 0.5, None)]
    with path.open("a") as file:
        file.write('uracy": 0.6, "size_bytes": 7, "warmup": true}\n')
    (point,) = tail.read()
    assert (point.step, point.metric, point.size, point.warmup) == (2, 0.6, 7.0, True)
    assert (tail.steps, tail.garbage) == (9, 0)
    assert tail.read() == []


def test_garbage_in_a_curve_is_counted_and_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(
        b'Epoch 1/9\n{"step": 1, "accuracy": NaN}\n{"step": "2"}\n\xff\xfe\n[]\n'
        b'{"step": 1, "accuracy": 0.5}\n{"step": 3, "accuracy": 0.7}\n'
    )
    tail = folder.MetricsTail(path, OBJECTIVE)
    assert [(p.step, p.metric) for p in tail.read()] == [(1, None), (3, 0.7)]
    assert tail.garbage == 5
    assert tail.first_garbage == "Epoch 1/9"


def test_a_line_without_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"x" * (3 << 20) + b"\n" + b'{"step": 4, "accuracy": 0.5}\n')
    tail = folder.MetricsTail(path, OBJECTIVE)
    points = [point for _ in range(6) for point in tail.read()]
    assert [point.step for point in points] == [4]
