"""A run in one sentence, and the figures that are told wherever a run is told in few words."""

from __future__ import annotations

from epigram.report.folder import Record, at, before_after, number, record, text
from epigram.report.words import (
    factor,
    grouped,
    in_bytes,
    is_input,
    metric_value,
    percent,
    subject,
)


def headline(result: Record, *, recipe: str | None, fallback: str) -> str:
    """The run in one sentence; shorter where the run did less."""
    name = subject(recipe) if recipe else fallback
    dense, small = number(result, "dense_bytes"), number(result, "file_bytes")
    before, after = dense_error(result), number(result, "test_error_percent")
    pieces: list[str] = []
    if dense is not None and small is not None:
        pieces.append(f"{in_bytes(dense)} → {in_bytes(small)} ({factor(_ratio(result))})")
    elif dense is not None:
        pieces.append(f"{in_bytes(dense)} as 32-bit floats")
    if before is not None and after is not None:
        pieces.append(f"{percent(before)} → {percent(after)} test error")
    elif after is not None or before is not None:
        pieces.append(f"{percent(after if after is not None else before)} test error")
    sentence = f"{name}: {', '.join(pieces)}" if pieces else f"{name}: not finished yet"
    floor = floor_words(result)
    if floor is not None:
        what = "floor" if number(result, "budget", "bytes") is None else "budget"
        sentence += f"; {what} {floor[0]} {'met' if floor[1] else 'not met'}"
    return sentence


def floor_words(result: Record) -> tuple[str, bool] | None:
    """``accuracy ≥ 98.20 %`` and whether it was met; None where no floor was asked for."""
    metric, value = text(result, "floor", "metric"), number(result, "floor", "value")
    budget = number(result, "budget", "bytes")
    if metric is not None and budget is not None:
        return f"{metric} in {in_bytes(budget)}", at(result, "budget", "met") is True
    met = at(result, "floor", "met")
    if metric is None or value is None or not isinstance(met, bool):
        return None
    relation = "≤" if at(result, "floor", "larger_is_better") is False else "≥"
    return f"{metric} {relation} {metric_value(metric, value)}", met


def dense_error(result: Record) -> float | None:
    """Test error of the original network, per cent."""
    return number(result, "dense_test_error_percent")


def unit_summary(result: Record) -> str | None:
    """Units of all groups, before and after: ``400 → 111``; None where nothing was counted."""
    units = record(result, "units")
    pairs = [before_after(entry) for group, entry in units.items() if not is_input(group)]
    known = [(b, a) for b, a in pairs if b is not None and a is not None]
    if not known:
        return None
    kept = sum(a for _, a in known)
    return f"{grouped(sum(b for b, _ in known))} → {grouped(kept)}"


def _ratio(result: Record) -> float | None:
    dense, small = number(result, "dense_bytes"), number(result, "file_bytes")
    return dense / small if dense is not None and small else number(result, "ratio")
