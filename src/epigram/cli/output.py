"""What commands print: JSON for machines, aligned lines for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from epigram.errors import ConfigError


def print_json(document: Any) -> None:
    """One JSON document on stdout, in ASCII. Keys keep their order; what JSON cannot hold is written as text."""
    json.dump(document, sys.stdout, indent=2, default=_plain)
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


def printable(text: object) -> str:
    r"""Text as it may go to a terminal: what somebody else wrote must not move its cursor, colour it or turn it around.

    Example:
        >>> printable("conv1\x1b[31m")
        'conv1\\x1b[31m'
    """
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii")
        for sign in str(text)
    )


def warn(message: str) -> None:
    """One line on stderr."""
    print(f"epigram: {printable(' '.join(message.split()))}", file=sys.stderr)


def print_result(result: Mapping[str, object]) -> None:
    """The table of a run's figures."""
    from rich.console import Console

    from epigram import report

    Console().print(report.table(result))


def where_it_lies(folder: Path) -> str:
    """Where a run's file, figures and page are."""
    lines = (
        ("the file", folder / "model.epg"),
        ("the figures", folder / "result.json"),
        ("the page", folder / "report" / "index.html"),
    )
    return "\n".join(f"{what:<12}{path}" for what, path in lines if path.exists())


def existing_file(path: str) -> Path:
    """``path``, which must be a file.

    Raises:
        ConfigError: it is not.
    """
    if not Path(path).is_file():
        what = "is a folder" if Path(path).is_dir() else "no such file"
        raise ConfigError(f"{path}: {what}; expected a file")
    return Path(path)


def existing_folder(path: str) -> Path:
    """``path``, which must be a folder.

    Raises:
        ConfigError: it is not.
    """
    if not Path(path).is_dir():
        what = "is a file" if Path(path).is_file() else "no such folder"
        raise ConfigError(f"{path}: {what}; expected a run's folder")
    return Path(path)
