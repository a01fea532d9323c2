"""What tables of results are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Result = Mapping[str, Any]


def markdown(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> list[str]:
    """A table."""
    lines = [head, ("---",) * len(head), *rows]
    return [f"| {' | '.join(map(str, line))} |" for line in lines]


def spread(found: Mapping[str, float] | None, form: str = ".2f") -> str:
    """``median (least–largest)``; of a single value just that."""
    if found is None:
        return "–"

    def say(value: float) -> str:
        return (
            grouped(int(value)) if float(value).is_integer() and value > 99 else f"{value:{form}}"
        )

    if found.get("n") == 1:
        return say(found["median"])
    return f"{say(found['median'])} ({say(found['min'])}–{say(found['max'])})"


def hundredfold(found: Mapping[str, float] | None) -> Mapping[str, float] | None:
    """The spread of a share, in per cent."""
    return found and {**found, **{key: 100 * found[key] for key in ("median", "min", "max")}}


def grouped(number: int) -> str:
    """``1 066 440``."""
    return f"{number:,}".replace(",", " ")


def missing(result: Result) -> list[str]:
    """The cells that are not measured yet, named."""
    names = result.get("missing") or []
    return ["", f"Not measured yet: {', '.join(names)}."] if names else []
