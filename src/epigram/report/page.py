"""The HTML of a page: one file, no script, no network; pictures are data inside it."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources

from epigram.report.words import NOTHING

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Picture:
    """Encoded pictures for light and dark pages, or a movie and its still."""

    light: bytes
    dark: bytes | None = None
    gif: bytes | None = None
    size: tuple[int, int] | None = None


def data_uri(content: bytes, kind: str) -> str:
    """The content as an address: ``data:image/png;base64,…``."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def picture(content: Picture, *, alt: str) -> str:
    """A picture that follows the reader's wishes: dark pages, and no motion where none is wanted."""
    shape = "" if content.size is None else f' width="{content.size[0]}" height="{content.size[1]}"'
    still = data_uri(content.light, "png")
    if content.gif is not None:
        source = f'<source media="(prefers-reduced-motion: reduce)" srcset="{still}">'
        main = data_uri(content.gif, "gif")
    else:
        main = still
        source = ""
        if content.dark is not None:
            dark = data_uri(content.dark, "png")
            source = f'<source media="(prefers-color-scheme: dark)" srcset="{dark}">'
    return f'<picture>{source}<img src="{main}" alt="{escape(alt)}"{shape}></picture>'


def figure(title: str, body: str, caption: str, *, kind: str = "") -> str:
    """A card with a heading, a picture and what to see in it."""
    return (
        f'<figure class="card {kind}"><h3>{escape(title)}</h3>{body}'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def absent(title: str, sentence: str) -> str:
    """A card that says in a sentence why there is no picture."""
    return f'<div class="card absent"><h3>{escape(title)}</h3><p>{escape(sentence)}</p></div>'


def section(title: str, lead: str, parts: Iterable[str], *, grid: bool = True) -> str:
    """A chapter of the page."""
    body = "".join(parts)
    inner = f'<div class="grid">{body}</div>' if grid else body
    return f"<section><h2>{escape(title)}</h2><p class=lead>{escape(lead)}</p>{inner}</section>"


def columns(parts: Iterable[str]) -> str:
    """Cards in two columns, dealt in turn; one column on a phone."""
    cards = list(parts)
    left, right = "".join(cards[::2]), "".join(cards[1::2])
    return (
        f'<div class="grid"><div class="stack">{left}</div><div class="stack">{right}</div></div>'
    )


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    label: str,
    tones: Sequence[str] = (),
    kind: str = "",
) -> str:
    """A table in a box of its own, which scrolls sideways where it must; the first cell heads its row."""
    lines = []
    for place, row in enumerate(rows):
        tone = tones[place] if place < len(tones) else ""
        mark = f' class="{tone}"' if tone else ""
        first, *others = row
        cells = "".join(f"<td{_none(cell)}>{escape(cell)}</td>" for cell in others)
        lines.append(f'<tr{mark}><th scope="row">{escape(first)}</th>{cells}</tr>')
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    return (
        f'<div class="box" role="region" tabindex="0" aria-label="{escape(label)}">'
        f'<table class="{kind}"><thead><tr>{heads}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
    )


def _none(cell: str) -> str:
    """Marks a cell that holds only a dash: narrow pages leave it out."""
    return ' class="none"' if cell == NOTHING else ""


def tiles(entries: Iterable[tuple[str, str, str, str]]) -> str:
    """The few figures that matter most: label, figure, remark, tone."""
    cells = "".join(
        f'<div class="tile {tone}"><dt>{escape(label)}</dt><dd>{escape(value)}<small>{escape(remark)}</small></dd></div>'
        for label, value, remark, tone in entries
    )
    return f"<dl class=tiles>{cells}</dl>" if cells else ""


def details(title: str, body: str) -> str:
    """Something to unfold."""
    return f"<details><summary>{escape(title)}</summary>{body}</details>"


def whole_page(*, title: str, eyebrow: str, headline: str, body: str, foot: str) -> str:
    """The document around it all."""
    style = resources.files("epigram.report").joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{style}</style></head>'
        f'<body><main><header><p class="eyebrow">{escape(eyebrow)}</p>'
        f"<h1>{escape(headline)}</h1></header>{body}"
        f"<footer>{escape(foot)}</footer></main></body></html>\n"
    )
