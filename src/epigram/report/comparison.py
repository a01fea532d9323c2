"""Several runs side by side: every setting in which they differ, and their curves on one plot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from epigram.atomic import write_bytes
from epigram.errors import ConfigError
from epigram.report import headline, page
from epigram.report.curves import Curve, curve, epoch_axis, timeline
from epigram.report.folder import Run, number, read_run
from epigram.report.plates import Absent, Plate
from epigram.report.run_page import show
from epigram.report.run_section import printed
from epigram.report.style import Theme, legend_above, log_ticks, new_figure
from epigram.report.words import NOTHING, counted, factor, in_bytes, percent, subject

NOT_SET = "not set"
_IDENTIFIES = ("out", "folder")
"""Differ between any two runs and say nothing."""


@dataclass(frozen=True)
class Difference:
    """A setting and its value in each run, in the order of the runs; ``not set`` where it is absent."""

    setting: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` found and wrote."""

    names: tuple[str, ...]
    differences: tuple[Difference, ...]
    html: Path
    plot: Path | None
    """The PNG of the curves; None when no run has any."""

    def __str__(self) -> str:
        """The page's path: what a command prints."""
        return str(self.html)


def compare(folders: Sequence[Path], out: Path) -> Comparison:
    """Compare runs: write ``compare.html`` and ``curves.png`` into the folder ``out``.

    Args:
        folders: two or more run folders, finished or not.
        out: the folder for the page and its picture; made if need be.

    Raises:
        ConfigError: fewer than two folders, or one that is not a run's.
        DataError: a file of a run is damaged.
        StorageError: the comparison cannot be written.
    """
    if len(folders) < 2:
        raise ConfigError(
            f"compare: got {counted(len(folders), 'run folder')}, expected two or more"
        )
    out = Path(out)
    runs = [read_run(Path(folder)) for folder in folders]
    names = _names([run.folder for run in runs])
    found = differences(runs)
    plate = _curves(runs, names)
    body = _body(runs, names, found, "".join(show([plate], out, kind="middle")))
    html = page.whole_page(
        title="Comparison · epigram",
        eyebrow="epigram comparison",
        headline=_headline(runs, found),
        body=body,
        foot="Written by epigram. Settings are those of each run's config.json.",
    )
    path = out / "compare.html"
    write_bytes(path, html.encode("utf-8"))
    plot = None if isinstance(plate, Absent) else out / f"{plate.stem}.png"
    return Comparison(tuple(names), found, path, plot)


def differences(runs: Sequence[Run]) -> tuple[Difference, ...]:
    """Every setting that is not the same in all runs, in the order of the settings."""
    settings = [run.settings for run in runs]
    names = dict.fromkeys(name for flat in settings for name in flat)
    rows = (
        Difference(name, tuple(printed(f[name]) if name in f else NOT_SET for f in settings))
        for name in names
        if name not in _IDENTIFIES
    )
    return tuple(row for row in rows if len(set(row.values)) > 1)


def _names(folders: Sequence[Path]) -> list[str]:
    """Folder names; with their parents where two would be the same."""
    parts = [folder.resolve().parts for folder in folders]
    for depth in range(1, max(len(p) for p in parts) + 1):
        names = ["/".join(p[-depth:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{place}: {p[-1]}" for place, p in enumerate(parts, start=1)]


def _headline(runs: Sequence[Run], found: Sequence[Difference]) -> str:
    recipes = list(dict.fromkeys(subject(run.recipe) for run in runs if run.recipe))
    what = recipes[0] if len(recipes) == 1 else "Different recipes" if recipes else "Runs"
    how = f"differ in {counted(len(found), 'setting')}" if found else "have the same settings"
    return f"{what}: {len(runs)} runs that {how}."


def _curves(runs: Sequence[Run], names: Sequence[str]) -> Plate | Absent:
    title = "Control error and NLL of all runs"
    lines = [_lines(run) for run in runs]
    if not any(len(c) for pairs in lines for pair in pairs.values() for c in pair):
        return Absent(title, "None of the runs has metrics, so there are no curves to compare.")

    def draw(theme: Theme) -> Figure:
        figure = new_figure(height=5.2 + 0.2 * len(runs))
        upper, lower = figure.subplots(2, 1, sharex=True)
        for place, (name, pairs) in enumerate(zip(names, lines, strict=True)):
            colour = theme.cycle[place % len(theme.cycle)]
            for kind, (error, nll) in pairs.items():
                solo = kind == "Bayesian" or not len(pairs["Bayesian"][0])
                label = name if solo else "_"
                _line(upper, error, colour, label=label, dashed=kind == "plain")
                _line(lower, nll, colour, label="_", dashed=kind == "plain")
        upper.set_yscale("log")
        upper.set_ylabel("control error")
        log_ticks(upper.yaxis, "{:g} %".format)
        lower.set_yscale("log")
        log_ticks(lower.yaxis, "{:g}".format)
        lower.set_ylabel("control NLL, nats per image")
        legend_above(upper, columns=1 if max(map(len, names)) > 22 else 2)
        epoch_axis(lower)
        return figure

    caption = (
        "One colour per run, both axes logarithmic, lower is better. Solid: the Bayesian network; dashed: the plain one. "
        "Both are measured on control images."
    )
    return Plate("curves", title, caption, "Line plots of control error and NLL of all runs.", draw)


def _lines(run: Run) -> dict[str, tuple[Curve, Curve]]:
    """Control error (per cent) and NLL of the plain and of the Bayesian network."""
    pairs: dict[str, tuple[Curve, Curve]] = {}
    for kind, plain in (("plain", True), ("Bayesian", False)):
        placed = timeline(run.history, plain=plain)
        hits = curve(placed, "control", "accuracy")
        pairs[kind] = (Curve(hits.epochs, 100 - 100 * hits.values), curve(placed, "control", "nll"))
    return pairs


def _line(axes: Axes, points: Curve, colour: str, *, label: str, dashed: bool) -> None:
    if len(points):
        style = (0, (3, 1.6)) if dashed else "-"
        axes.plot(
            points.epochs, points.values, color=colour, label=label, linestyle=style, linewidth=1.6
        )


def _body(runs: Sequence[Run], names: Sequence[str], found: Sequence[Difference], plot: str) -> str:
    results = page.table(
        ("run", "file", "ratio", "test error", "original", "floor"),
        [_result_row(run, name) for run, name in zip(runs, names, strict=True)],
        label="Results",
        kind="runs",
    )
    parts = [
        page.section(
            "Results", "Bytes on disk, and the error of the decoded network.", [results], grid=False
        )
    ]
    if found:
        rows: Iterable[tuple[str, ...]] = ((d.setting, *d.values) for d in found)
        table = page.table(
            ("setting", *names), rows, label="Settings that differ", kind="settings runs"
        )
        lead = "All of them; every other setting is the same in all runs."
        parts.append(page.section("Settings that differ", lead, [table], grid=False))
    else:
        parts.append(page.section("Settings that differ", "There are none.", [], grid=False))
    parts.append(page.section("Curves", "How they got there.", [plot], grid=False))
    return "".join(parts)


def _result_row(run: Run, name: str) -> tuple[str, ...]:
    result = run.result
    dense, small = number(result, "dense_bytes"), number(result, "file_bytes")
    ratio = f"{factor(dense / small)} of {in_bytes(dense)}" if dense and small else NOTHING
    floor = headline.floor_words(result)
    verdict = NOTHING if floor is None else f"{floor[0]} {'met' if floor[1] else 'not met'}"
    errors = (number(result, "test_error_percent"), headline.dense_error(result))
    return (name, in_bytes(small), ratio, *(percent(error) for error in errors), verdict)
