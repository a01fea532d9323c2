"""Figures in words, and the rows that the page and the terminal share."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from epigram import report
from epigram.report.facts import facts
from epigram.report.headline import headline
from epigram.report.words import duration, factor, grouped, percent, subject

RESULT: dict[str, Any] = {
    "recipe": "lenet-300-100/mnist",
    "dense_bytes": 1_066_440,
    "file_bytes": 12_345,
    "dense_test_error_percent": 1.72,
    "test_error_percent": 1.81,
    "floor": {"metric": "accuracy", "value": 0.98, "validation_value": 0.9814, "met": True},
    "paper_counts": {"architecture": 12.3, "with_uncertainty": 47.9, "error_percent": 1.84},
    "predicted_bytes": 12_000,
}


def plain(words: str) -> str:
    return words.replace("\u202f", " ").replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "0"), (999, "999"), (1000, "1 000"), (1_066_440, "1 066 440"), (-1234.4, "\u22121 234")],
)
def test_grouped(value: float, words: str) -> None:
    assert plain(grouped(value)) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.412, "0.41 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (134, "2 min 14 s"),
        (3599.7, "1 h 00 min"),
        (11_100, "3 h 05 min"),
        (None, "\u2013"),
    ],
)
def test_duration(seconds: float | None, words: str) -> None:
    assert plain(duration(seconds)) == words


def test_factor_and_percent() -> None:
    assert [factor(v) for v in (1.234, 86.387, 688.9)] == ["1.23×", "86.4×", "689×"]
    assert plain(percent(1.8149)) == "1.81 %"


def test_subject() -> None:
    assert subject("lenet-300-100/mnist") == "LeNet-300-100 on MNIST"
    assert subject("resnet-20/cifar10-jpeg") == "ResNet-20 on CIFAR-10-JPEG"
    assert subject("mine") == "mine"


def test_headline_says_it_all() -> None:
    sentence = plain(headline(RESULT, recipe="lenet-300-100/mnist", fallback="Run x"))
    assert sentence == (
        "LeNet-300-100 on MNIST: 1 066 440 bytes → 12 345 bytes (86.4×), "
        "1.72 % → 1.81 % test error; floor accuracy ≥ 98.00 % met"
    )


def test_headline_of_a_missed_floor_and_of_nothing() -> None:
    missed = RESULT | {"floor": RESULT["floor"] | {"met": False}}
    assert headline(missed, recipe=None, fallback="Run x").endswith("not met")
    assert headline({}, recipe=None, fallback="Run x") == "Run x: not finished yet"


def test_ratio_has_both_its_terms() -> None:
    row = next(fact for fact in facts(RESULT) if fact.name == "size")
    assert plain(row.meaning).startswith("86.4× = 1 066 440 / 12 345")


def test_paper_counts_are_called_counts() -> None:
    rows = [fact for fact in facts(RESULT) if fact.name.startswith("paper")]
    assert [row.after for row in rows] == ["12.3×", "47.9×"]
    assert all("a count, not bytes" in row.meaning for row in rows)
    assert "1.84" in rows[1].meaning
    assert not any("bytes" in plain(row.after) for row in rows)


def test_predicted_beside_actual() -> None:
    row = next(fact for fact in facts(RESULT) if fact.name == "predicted size")
    assert plain(row.after) == "12 000 bytes"
    assert "345 bytes larger" in plain(row.meaning)


@pytest.mark.parametrize("missing", [*RESULT, None])
def test_rows_that_are_missing_have_no_row(missing: str | None) -> None:
    result = {key: value for key, value in RESULT.items() if key != missing}
    assert len(facts(result)) >= (6 if missing is None else 4)
    assert all(fact.name and fact.meaning for fact in facts(result))
    assert facts({}) == ()


def test_floor_on_a_loss_reads_the_other_way() -> None:
    floor = {"metric": "nll", "value": 0.1, "validation_value": 0.12, "met": False}
    row = facts({"floor": floor | {"larger_is_better": False}, "file_bytes": 5})[0]
    assert "≤ 0.1" in row.before
    assert row.tone == "bad"
    assert "0.02 short" in row.meaning


def test_terminal_table() -> None:
    console = Console(file=io.StringIO(), width=110, record=True)
    console.print(report.table(RESULT))
    words = plain(console.export_text())
    for expected in ("1 066 440 bytes", "12 345 bytes", "86.4×", "1.81 %", "met, 0.14 points"):
        assert expected in words
    assert "compressed" in words


def test_terminal_table_of_a_plain_run_has_one_column_of_figures() -> None:
    console = Console(file=io.StringIO(), width=110, record=True)
    console.print(report.table({"test_error_percent": 1.7, "dense_bytes": 400}))
    words = plain(console.export_text())
    assert "1.70 %" in words
    assert "compressed" not in words
