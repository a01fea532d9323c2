"""The tables of a search's page."""

from __future__ import annotations

from collections.abc import Sequence

from epigram.report import page
from epigram.report.words import NOTHING, duration, grouped, percent, plain_number, share
from epigram.search import plates, slot_plates
from epigram.search.calibration import LookReport
from epigram.search.history import Trial
from epigram.search.plates import Seen
from epigram.search.space import Space


def tested(seen: Seen) -> list[str]:
    """The files that were put to the test, beside what the search had thought of their designs."""
    files = (seen.history.confirmed or {}).get("tested", ())
    if not files:
        return []
    found = {t.run_id: t for t in seen.history}
    rows = [
        (
            one["run_id"],
            grouped(one["size"]),
            _said(seen, found[one["design"]]) if one["design"] in found else NOTHING,
            _percent(seen, one.get("error")),
            _percent(seen, one.get("upper")),
            share(one.get("alpha")),
            f"{one.get('verdict', 1)}: {'confirmed' if one['passed'] else 'not certain'}",
        )
        for one in files
    ]
    head = ("run", "size", "the search's estimate", "error", "at most", "wrong in", "verdict")
    return [page.table(head, rows, label="Files put to the test", kind="runs")]


def _said(seen: Seen, trial: Trial) -> str:
    if trial.outcome is None or trial.outcome.metric is None or trial.outcome.size is None:
        return NOTHING
    error = _percent(seen, seen.error(trial) / seen.scale)
    return f"{grouped(trial.outcome.size)} at {error}"


def _percent(seen: Seen, error: float | None) -> str:
    if error is None:
        return NOTHING
    return percent(100 * error) if seen.objective.is_share else plain_number(error)


def looks(reports: Sequence[LookReport]) -> list[str]:
    """How good the forecasts of each look were."""
    if not reports:
        return []
    rows = [
        (
            f"{r.look:.0%}",
            str(r.n),
            f"{r.correlation:.3f}",
            f"{r.mae:.3g}",
            f"{r.mae_last:.3g}",
            f"{r.mae_log_size:.3f}",
            f"{r.coverage[0.9][0]:.2f}",
            f"{r.crps:.3g}",
            f"{r.brier:.3f}",
            f"{r.brier_base:.3f}",
        )
        for r in reports
    ]
    head = (
        "look",
        "trials",
        "correlation",
        "mean error",
        "last value's",
        "of log size",
        "inside 90 %",
        "CRPS",
        "Brier",
        "Brier, base rate",
    )
    return [page.table(head, rows, label="Forecasts by look", kind="runs")]


def varied(space: Space) -> str:
    """What was varied."""
    rows = [(name, str(d)) for name, d in space.dimensions.items()]
    return page.table(("setting", "values"), rows, label="What was varied", kind="settings")


def attempts(seen: Seen) -> list[str]:
    """What ran where and how it ended: what was killed, and why."""
    rows = [
        (
            str(bar.trial),
            str(bar.attempt),
            bar.slot,
            duration(bar.end - bar.begin),
            bar.reason or "nobody saw",
            NOTHING if bar.signal is None else str(bar.signal),
            bar.note or NOTHING,
        )
        for bar in slot_plates.bars(seen.history)
    ]
    if not rows:
        return []
    head = ("trial", "attempt", "slot", "took", "ended", "signal", "note")
    return [page.details("All attempts", page.table(head, rows, label="Attempts", kind="runs"))]


def trials(seen: Seen) -> str:
    """All trials, to unfold."""
    rows = []
    for trial in seen.history:
        line = plates.told(trial, seen)
        seconds = None if trial.outcome is None else trial.outcome.seconds
        rows.append(
            (
                line["trial"],
                line["run"],
                line["how"] or NOTHING,
                line["size"] or NOTHING,
                line["error"] or NOTHING,
                line["by"],
                duration(seconds),
                line["note"] or NOTHING,
            )
        )
    head = ("trial", "run", "came out", seen.size_words, seen.error_words, "by", "took", "note")
    return page.details("All trials", page.table(head, rows, label="Trials", kind="runs"))
