"""What was asked and what was reached, as rows: the page and the terminal print the same ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from epigram.report.folder import Record, before_after, number, record, text
from epigram.report.headline import dense_error, floor_words
from epigram.report.words import (
    NOTHING,
    counted,
    duration,
    factor,
    grouped,
    in_bytes,
    metric_value,
    percent,
    plain_number,
)

Say: TypeAlias = Callable[[float], str]


@dataclass(frozen=True)
class Fact:
    """One line: a quantity of the original, of the decoded network, and what it means."""

    name: str
    before: str
    after: str
    meaning: str
    tone: str = ""
    """``good`` or ``bad`` where a promise was kept or broken."""


def facts(result: Record) -> tuple[Fact, ...]:
    """Every figure the result holds; figures it does not hold have no row."""
    rows = [
        _floor(result),
        _size(result),
        _predicted(result),
        _error(result),
        *_quality(result),
        *_paper_counts(result),
        *_cost(result),
    ]
    known = tuple(row for row in rows if row is not None)
    return known if number(result, "file_bytes") is not None else tuple(map(_of_plain, known))


def _of_plain(fact: Fact) -> Fact:
    """Without a file there is one network only: its figures stand in the first column."""
    if fact.before == NOTHING:
        return replace(fact, before=fact.after, after=NOTHING)
    return fact


def columns(rows: Sequence[Fact]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Headings and cells of a table; no column for a second network where there is none."""
    if any(row.after != NOTHING for row in rows):
        head: tuple[str, ...] = ("", "original", "compressed", "in words")
        return head, [(row.name, row.before, row.after, row.meaning) for row in rows]
    return ("", "figure", "in words"), [(row.name, row.before, row.meaning) for row in rows]


def _floor(result: Record) -> Fact | None:
    asked = floor_words(result)
    if asked is None:
        return None
    metric = text(result, "floor", "metric") or ""
    if (budget := number(result, "budget", "bytes")) is not None:
        return Fact(
            f"budget, {metric}",
            f"asked {in_bytes(budget)}",
            metric_value(metric, number(result, "floor", "validation_value")),
            f"{'kept' if asked[1] else 'NOT kept'}; the decoded file on validation images",
            "good" if asked[1] else "bad",
        )
    value = number(result, "floor", "value") or 0.0
    reached = number(result, "floor", "validation_value")
    spare = "" if reached is None else _spare(metric, abs(reached - value), met=asked[1])
    verdict = "met" if asked[1] else "NOT met, the best the run had"
    return Fact(
        f"floor, {metric}",
        f"asked {asked[0].removeprefix(metric).strip()}",
        metric_value(metric, reached),
        f"{verdict}{spare}; the decoded file on validation images",
        "good" if asked[1] else "bad",
    )


def _spare(metric: str, gap: float, *, met: bool) -> str:
    points = f"{100 * gap:.2f} points" if metric in ("accuracy", "error") else plain_number(gap)
    return f", {points} {'to spare' if met else 'short'}"


def _size(result: Record) -> Fact | None:
    dense, small = number(result, "dense_bytes"), number(result, "file_bytes")
    if dense is None and small is None:
        return None
    meaning = "the original's parameters and buffers as 32-bit floats"
    if dense is not None and small:
        meaning = (
            f"{factor(dense / small)} = {grouped(dense)} / {grouped(small)}; "
            "the whole file on disk, the original as 32-bit floats"
        )
    return Fact("size", in_bytes(dense), in_bytes(small), meaning)


def _predicted(result: Record) -> Fact | None:
    predicted, small = number(result, "predicted_bytes"), number(result, "file_bytes")
    if predicted is None:
        return None
    off = ""
    if small is not None and predicted:
        gap = round(small - predicted)
        off = f"; the file is {counted(abs(gap), 'byte')} {'larger' if gap >= 0 else 'smaller'}"
    return Fact("predicted size", NOTHING, in_bytes(predicted), f"expected before encoding{off}")


def _error(result: Record) -> Fact | None:
    before, after = dense_error(result), number(result, "test_error_percent")
    if before is None and after is None:
        return None
    meaning = "wrong answers on the whole test set"
    if before is not None and after is not None:
        change = f"{after - before:+.2f} points".replace("-", "\u2212")
        meaning = f"{change}; wrong answers on the whole test set, right: of the decoded file"
    return Fact("test error", percent(before), percent(after), meaning)


def _quality(result: Record) -> list[Fact | None]:
    rows: list[Fact | None] = []
    nll, ece = number(result, "test_nll"), number(result, "test_calibration_error")
    if nll is not None:
        before = plain_number(number(result, "dense_test_nll"))
        rows.append(Fact("test NLL", before, plain_number(nll), "nats per image; lower is better"))
    if ece is not None:
        before = plain_number(number(result, "dense_test_calibration_error"), digits=3)
        meaning = "mean gap between confidence and accuracy; 0 is perfect"
        rows.append(Fact("calibration error", before, plain_number(ece, digits=3), meaning))
    differ = number(result, "disagreement_percent")
    if differ is None:
        differ = number(result, "disagreement_percent", "total")
    if differ is not None:
        rows.append(
            Fact(
                "disagreement",
                NOTHING,
                percent(differ),
                f"test images the two networks answer differently{_worst_class(result)}",
            )
        )
    return rows


def _worst_class(result: Record) -> str:
    changes = result.get("class_accuracy_change_percent")
    if not isinstance(changes, list):
        return ""
    known = [c for c in changes if isinstance(c, int | float)]
    if not known:
        return ""
    return f"; accuracy of the worst class {min(known):+.2f} points".replace("-", "\u2212")


def _paper_counts(result: Record) -> list[Fact | None]:
    """Louizos et al. 2017 count bits by formula; nothing of that size is written anywhere."""
    counts = record(result, "paper_counts")
    rows: list[Fact | None] = []
    architecture, uncertain = number(counts, "architecture"), number(counts, "with_uncertainty")
    if architecture is not None:
        meaning = "a count, not bytes: original weights per weight left"
        rows.append(Fact("paper: architecture", NOTHING, factor(architecture), meaning))
    if uncertain is not None:
        errors = (number(counts, key) for key in counts if "error" in key)
        error = next((value for value in errors if value is not None), None)
        at_error = "" if error is None else f"; test error at that precision {percent(error)}"
        meaning = (
            f"a count, not bytes: the same in bits, which the posterior's variance sets{at_error}"
        )
        rows.append(Fact("paper: with uncertainty", NOTHING, factor(uncertain), meaning))
    return rows


def _cost(result: Record) -> list[Fact | None]:
    return [
        _pair(result, "macs", "multiplications", grouped, "per image, in the forward pass"),
        _pair(
            result, "latency_ms", "latency", _milliseconds, "of one forward pass, measured in turns"
        ),
        _pair(result, "load_ms", "loading", _milliseconds, "from disk to a network ready to run"),
        _pair(result, "peak_rss_bytes", "memory", _mebibytes, "peak of the process that evaluates"),
    ]


def _pair(result: Record, key: str, name: str, say: Say, meaning: str) -> Fact | None:
    before, after = before_after(result.get(key))
    if after is None:
        after = number(result, key)
    if before is None and after is None:
        return None
    gain = f"{factor(before / after)} less; " if before and after and before >= 1.05 * after else ""
    left, right = (NOTHING if value is None else say(value) for value in (before, after))
    return Fact(name, left, right, gain + meaning)


def _milliseconds(value: float) -> str:
    return f"{value:.3g} ms"


def _mebibytes(value: float) -> str:
    return f"{value / 2**20:.0f} MiB"


def stage_seconds(result: Record) -> tuple[tuple[str, str], ...]:
    """Seconds per stage, and their sum where the run did not give one."""
    known = [
        (stage, number(record(result, "seconds"), stage)) for stage in record(result, "seconds")
    ]
    stages = [(stage, seconds) for stage, seconds in known if seconds is not None]
    rows = [(stage, duration(seconds)) for stage, seconds in stages]
    if len(stages) > 1 and not any(stage in ("total", "all") for stage, _ in stages):
        rows.append(("all stages", duration(sum(seconds for _, seconds in stages))))
    return tuple(rows)
