"""The table at the end of a run, in the terminal: figures with units, and what each means."""

from __future__ import annotations

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from epigram.report.facts import columns, facts, stage_seconds
from epigram.report.folder import text
from epigram.report.headline import headline
from epigram.report.words import NARROW

_TONES = {"good": "green", "bad": "bold red"}


def table(result: Mapping[str, object]) -> Table:
    """The end-of-run table of a ``result.json``.

    Args:
        result: the keys of ``result.json``; those that are missing have no row.

    Returns:
        A table for ``rich.print``: one row per figure with the original, the result and the meaning.
    """
    title = headline(result, recipe=text(result, "recipe"), fallback="This run")
    grid = Table(title=Text(_wide(title), style="bold"), title_justify="left", box=SIMPLE_HEAD)
    rows = facts(result)
    head, cells = columns(rows)
    for place, name in enumerate(head):
        last = place == len(head) - 1
        grid.add_column(
            name,
            justify="left" if place == 0 or last else "right",
            style="dim" if last else "",
            ratio=1 if last else None,
        )
    for row, texts in zip(rows, cells, strict=True):
        grid.add_row(*_styled(texts, _TONES.get(row.tone, "")))
    seconds = ", ".join(f"{stage} {spent}" for stage, spent in stage_seconds(result))
    if seconds:
        grid.caption = Text(_wide(f"time: {seconds}"))
        grid.caption_justify = "left"
    return grid


def _styled(cells: tuple[str, ...], tone: str) -> list[Text]:
    """The name and the last figure take the tone; the words stay calm."""
    toned = (0, len(cells) - 2)
    return [
        Text(_wide(cell), style=tone if place in toned else "") for place, cell in enumerate(cells)
    ]


def _wide(words: str) -> str:
    """Terminals know no narrow space; a space that does not break keeps figures whole."""
    return words.replace(NARROW, "\u00a0")
