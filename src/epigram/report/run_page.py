"""The page of one run: which exhibits it has, in which order, and the files behind them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from epigram.atomic import write_bytes
from epigram.report import (
    bars,
    calibration,
    facts,
    headline,
    movies,
    page,
    pixels,
    removability,
    run_section,
    shrinking,
    steering,
    training,
)
from epigram.report.folder import Record, Run, number, read_run, record, text
from epigram.report.plates import Absent, Exhibit, Movie
from epigram.report.style import DARK, LIGHT, drawing, png
from epigram.report.words import counted, factor, in_bytes, percent, plain_number

_FILE_LEAD = (
    "Every byte of the file is accounted for; the answers are those of the network decoded from it."
)
_NO_FILE_LEAD = "This run has written no compressed file."


def build(folder: Path) -> Path:
    """Write ``report/index.html`` of a run, and the pictures behind it.

    The page holds all its pictures and needs no network. What the run did not leave is named in a
    sentence. The same folder gives the same bytes.

    Args:
        folder: a run's folder, finished or not.

    Returns:
        The path of the page.

    Raises:
        ConfigError: ``folder`` is not a run's folder.
        DataError: a file of the run is damaged.
        StorageError: the report cannot be written.
    """
    folder = Path(folder)
    run = read_run(folder)
    target = folder / "report"
    body = "".join(_sections(run, target))
    sentence = headline.headline(
        run.result, recipe=run.recipe, fallback=f"Run {folder.resolve().name}"
    )
    html = page.whole_page(
        title=f"{sentence.split(':')[0]} · epigram",
        eyebrow=_eyebrow(run),
        headline=sentence + ".",
        body=body,
        foot=_foot(run),
    )
    path = target / "index.html"
    write_bytes(path, html.encode("utf-8"))
    return path


def _sections(run: Run, target: Path) -> Iterable[str]:
    yield page.tiles(_tiles(run.result))
    yield _asked_and_reached(run)
    over_epochs: list[Exhibit] = [training.accuracy(run), training.losses(run)]
    if (steered := steering.steering(run)) is not None:
        over_epochs.append(steered)
    yield page.section(
        "Training",
        "The plain network and its Bayesian counterpart, epoch by epoch.",
        show(over_epochs, target),
    )
    reels = [movies.movie(run, "first"), movies.movie(run, "second")]
    leaving: list[Exhibit] = [
        bars.units(run),
        shrinking.units_left(run),
        pixels.importance(run),
        removability.histograms(run),
    ]
    if (size := shrinking.predicted_size(run)) is not None:
        leaving.insert(2, size)
    leaving.sort(key=lambda exhibit: isinstance(exhibit, Absent))  # pictures first
    if all(isinstance(exhibit, Absent) for exhibit in [*reels, *leaving]):
        lead = "This run removed nothing and kept no record of its weights, so there is nothing to draw."
        yield page.section("What was removed", lead, [])
    elif all(isinstance(exhibit, Absent) for exhibit in leaving):
        lead = "This run removed no units; the movies show how its weights came to be."
        yield page.section("The weights", lead, show(reels, target), grid=False)
    else:
        yield _removed([*show(reels, target)], [*show(leaving, target)])
    yield page.section(
        "The file and its answers",
        _FILE_LEAD if number(run.result, "file_bytes") is not None else _NO_FILE_LEAD,
        show([bars.bytes_by_part(run), calibration.reliability(run)], target),
    )
    yield run_section.section(run)


def _removed(reels: list[str], cards: list[str]) -> str:
    return page.section(
        "What was removed",
        "Units whose scale is all noise carry nothing; they leave, physically, while training goes on.",
        [*reels, page.columns(cards)],
        grid=False,
    )


def show(
    exhibits: Iterable[Exhibit], target: Path, *, kind: Literal["", "wide", "middle"] = ""
) -> Iterable[str]:
    """Draw exhibits, write their files into ``target`` and return their cards."""
    for exhibit in exhibits:
        if isinstance(exhibit, Absent):
            yield page.absent(exhibit.title, exhibit.sentence)
        elif isinstance(exhibit, Movie):
            write_bytes(target / f"{exhibit.stem}.gif", exhibit.gif)
            write_bytes(target / f"{exhibit.stem}.png", exhibit.still)
            content = page.Picture(light=exhibit.still, gif=exhibit.gif, size=exhibit.size)
            body = page.picture(content, alt=exhibit.alt)
            yield page.figure(exhibit.title, body, exhibit.caption, kind="wide")
        else:
            drawn: dict[str, bytes] = {}
            for theme in (LIGHT, DARK):
                with drawing(theme):
                    drawn[theme.name] = png(exhibit.draw(theme))
            write_bytes(target / f"{exhibit.stem}.png", drawn["light"])
            write_bytes(target / f"{exhibit.stem}-dark.png", drawn["dark"])
            body = page.picture(page.Picture(drawn["light"], drawn["dark"]), alt=exhibit.alt)
            yield page.figure(exhibit.title, body, exhibit.caption, kind=kind)


def _tiles(result: Record) -> Iterable[tuple[str, str, str, str]]:
    dense, small = number(result, "dense_bytes"), number(result, "file_bytes")
    if small is not None:
        ratio = "" if dense is None else f"{factor(dense / small)} smaller than {in_bytes(dense)}"
        yield "file", in_bytes(small), ratio, ""
    error, before = number(result, "test_error_percent"), headline.dense_error(result)
    shown = error if error is not None else before
    if shown is not None:
        remark = "" if before is None or error is None else f"the original: {percent(before)}"
        yield "test error", percent(shown), remark, ""
    floor = headline.floor_words(result)
    if floor is not None:
        what = "floor" if number(result, "budget", "bytes") is None else "budget"
        yield what, "met" if floor[1] else "not met", floor[0], "good" if floor[1] else "bad"
    units = headline.unit_summary(result)
    if units is not None:
        yield "hidden units", units, "removed physically, not masked", ""
    seconds = facts.stage_seconds(result)
    if seconds:
        yield "time", seconds[-1][1], counted(len(record(result, "seconds")), "stage"), ""


def _asked_and_reached(run: Run) -> str:
    title = "What was asked, what was reached"
    rows = facts.facts(run.result)
    if not rows:
        sentence = (
            "The run has not written its result yet; what follows is what it has left so far."
        )
        return page.section(title, sentence, [])
    head, cells = facts.columns(rows)
    table = page.table(
        head,
        cells,
        label=title,
        tones=[row.tone for row in rows],
        kind="facts" if len(head) == 4 else "figures",
    )
    lead = "Sizes are bytes on disk; errors are of the network decoded from that very file."
    if number(run.result, "file_bytes") is None:
        lead = "This run trained a network and wrote no compressed file."
    return page.section(title, lead, [table], grid=False)


def _eyebrow(run: Run) -> str:
    pieces = ["epigram report", run.folder.resolve().name]
    seed = number(run.result, "seed")
    if seed is not None:
        pieces.append(f"seed {plain_number(seed)}")
    return " · ".join(pieces)


def _foot(run: Run) -> str:
    version = text(run.result, "epigram_version") or text(run.settings, "epigram_version")
    identity = text(run.result, "identity") or text(run.config, "identity")
    pieces = ["Written by epigram" + (f" {version}" if version else "")]
    if identity:
        pieces.append(f"run identity {identity}")
    pieces.append("the pictures lie beside this page as PNG and GIF files")
    return "; ".join(pieces) + "."
