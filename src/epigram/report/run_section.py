"""The section on how to do a run again: its splits, its time, its environment and all its settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

from epigram.report import page
from epigram.report.facts import stage_seconds
from epigram.report.folder import Record, Run, flatten, number, record, text
from epigram.report.words import NOTHING, plain_number


def section(run: Run) -> str:
    """What the run was given and what it took, as far as it has left that."""
    parts = []
    splits = _split_rows(run.result)
    if splits:
        parts.append(_block("Splits", ("split", "examples", "hash", "use"), splits, kind="splits"))
    seconds = stage_seconds(run.result)
    if seconds:
        parts.append(_block("Time", ("stage", "spent"), seconds))
    environment = _printable(record(run.result, "environment") or record(run.config, "environment"))
    if environment:
        parts.append(_block("Environment", ("what", "version"), environment, kind="settings"))
    blocks = page.columns(parts) if parts else ""
    settings = _printable(run.settings)
    if settings:
        table = page.table(("setting", "value"), settings, label="Settings", kind="settings")
        blocks += page.details(f"All {len(settings)} settings", table)
    if run.notes:
        blocks += "".join(f"<p class=lead>{escape(note)}</p>" for note in run.notes)
    lead = "Everything needed to do it again." if blocks else "The run left no settings."
    return page.section("The run", lead, [blocks], grid=False)


def _block(
    title: str, head: tuple[str, ...], rows: Iterable[tuple[str, ...]], kind: str = ""
) -> str:
    table = page.table(head, rows, label=title, kind=kind)
    return f'<div class="block"><h3>{escape(title)}</h3>{table}</div>'


def _split_rows(result: Record) -> tuple[tuple[str, str, str, str], ...]:
    """Name, size, hash and use of every split."""
    use = {
        "fit": "the weights are fitted to it",
        "control": "steers: cuts and the weight of the KL",
        "validation": "judges the floor",
        "test": "read once, at the end",
    }
    rows = []
    for name, entry in record(result, "splits").items():
        inner = entry if isinstance(entry, Mapping) else {"size": entry}
        size = next(
            (number(inner, k) for k in ("size", "n", "examples", "count") if k in inner), None
        )
        found = (text(inner, k) for k in ("hash", "fingerprint", "sha256"))
        digest = next((value for value in found if value), NOTHING)
        rows.append((name, plain_number(size), digest[:12], use.get(name, "")))
    return tuple(rows)


def _printable(source: Record) -> list[tuple[str, str]]:
    return [(name, printed(value)) for name, value in flatten(source).items()]


def printed(value: object) -> str:
    """A setting's value as a person writes it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    if isinstance(value, list | tuple):
        return ", ".join(printed(entry) for entry in value) or "none"
    return str(value)
