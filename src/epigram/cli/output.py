"""What commands print: JSON for machines, aligned lines for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def print_json(document: Any) -> None:
    """One JSON document on stdout. Keys keep their order; what JSON cannot hold is written as text."""
    json.dump(document, sys.stdout, indent=2, default=_plain, ensure_ascii=False)
    sys.stdout.write("\n")


def _plain(value: object) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    scalar = getattr(value, "item", None)
    if callable(scalar) and getattr(value, "size", 1) == 1:
        return scalar()
    as_list = getattr(value, "tolist", None)
    return as_list() if callable(as_list) else str(value)


def print_table(rows: Iterable[Sequence[object]], *, header: Sequence[str]) -> None:
    """Columns wide enough for what is in them; numbers to the right."""
    table = [tuple(header), *(tuple(_cell(cell) for cell in row) for row in rows)]
    numeric = [all(_is_number(row[at]) for row in table[1:]) for at in range(len(header))]
    widths = [max(len(row[at]) for row in table) for at in range(len(header))]
    for row in table:
        cells = [
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, numeric, strict=True)
        ]
        print("  ".join(cells).rstrip())


def _cell(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return grouped(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _is_number(text: str) -> bool:
    return text.replace(" ", "").replace(".", "").replace("-", "").isdigit()


def grouped(number: int) -> str:
    """``1 066 440``: thousands apart, for people.

    Example:
        >>> grouped(1066440)
        '1 066 440'
    """
    return f"{number:,}".replace(",", " ")
