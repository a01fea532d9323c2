"""Horizontal bars: the file's bytes by part, and the units of each group before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from epigram.report.folder import Run, before_after, flatten, number, record
from epigram.report.plates import Absent, Plate
from epigram.report.style import Theme, new_figure
from epigram.report.words import counted, factor, group_name, grouped, in_bytes, is_input

MOST_PARTS = 16
MOST_GROUPS = 24
_PARTS = {
    "scales": "steps, models",
    "live": "dead inputs",
    "names": "names, metadata",
    "structure": "shapes, edits",
}


def parts_of(breakdown: object) -> list[tuple[str, float]]:
    """Name and bytes of every part, largest first; nested entries get dotted names."""
    if isinstance(breakdown, Mapping):
        flat = flatten(breakdown)
        found = [(name, number({"v": value}, "v")) for name, value in flat.items()]
    elif isinstance(breakdown, Sequence) and not isinstance(breakdown, str):
        found = [_listed(entry) for entry in breakdown]
    else:
        found = []
    known = [(_spoken(name), size) for name, size in found if size and name != "total"]
    return sorted(known, key=lambda part: (-part[1], part[0]))


def _spoken(name: str) -> str:
    """``symbols/fc1.weight`` is the tensor's name; parts with a short name get a clearer one."""
    kind, _, tensor = (
        name.replace("symbols.", "symbols/", 1).replace("biases.", "biases/", 1).partition("/")
    )
    return tensor or _PARTS.get(kind, kind)


def _listed(entry: object) -> tuple[str, float | None]:
    if isinstance(entry, Mapping):
        size = number(entry, "bytes")
        return str(entry.get("name", entry.get("part", "?"))), size
    if isinstance(entry, Sequence) and len(entry) == 2:
        return str(entry[0]), number({"v": entry[1]}, "v")
    return "?", None


def bytes_by_part(run: Run) -> Plate | Absent:
    """Where the file's bytes go."""
    title = "The file, part by part"
    parts = parts_of(run.result.get("breakdown"))
    if not parts:
        return Absent(title, "No file was written, so there are no bytes to itemise.")
    total = sum(size for _, size in parts)
    shown = parts[:MOST_PARTS]
    if len(parts) > MOST_PARTS:
        shown = parts[: MOST_PARTS - 1]
        rest = parts[MOST_PARTS - 1 :]
        shown = [*shown, (f"{len(rest)} smaller parts", sum(size for _, size in rest))]

    def draw(theme: Theme) -> Figure:
        figure = new_figure(height=0.75 + 0.3 * len(shown))
        axes = figure.subplots()
        places = list(range(len(shown)))
        sizes = [size for _, size in shown]
        axes.barh(places, sizes, color=theme.bayes, height=0.66)
        for place, size in zip(places, sizes, strict=True):
            label = f" {grouped(size)}  ({_part(size, total)})"
            axes.text(size, place, label, va="center", fontsize=9, color=theme.ink)
        axes.set_yticks(places, [name for name, _ in shown])
        axes.tick_params(axis="y", labelcolor=theme.ink)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.42 * max(sizes, default=1.0) or 1.0)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: grouped(value)))
        axes.set_xlabel("bytes")
        return figure

    file_bytes = number(run.result, "file_bytes")
    gap = (
        ""
        if file_bytes is None or file_bytes == total
        else f" (the file has {in_bytes(file_bytes)})"
    )
    largest = f" The largest is {shown[0][0]}." if len(shown) > 1 else ""
    caption = f"All parts add up to {in_bytes(total)}{gap}; nothing is left out.{largest}"
    return Plate(
        "bytes",
        title,
        caption,
        f"Bar chart of the file's bytes in {counted(len(shown), 'part')}.",
        draw,
    )


def _part(size: float, total: float) -> str:
    """The share of the whole; what is there is never printed as nothing."""
    amount = 100 * size / total if total else 0.0
    return f"{amount:.1f} %" if amount >= 0.05 or not size else "<0.1 %"


def units(run: Run) -> Plate | Absent:
    """Units before and after, per group."""
    title = "Units before and after"
    found = {g: before_after(entry) for g, entry in record(run.result, "units").items()}
    known = [(g, b, a) for g, (b, a) in found.items() if b is not None and a is not None]
    if not known:
        return Absent(
            title,
            "No units were removed in this run, so there is nothing to count before and after.",
        )
    shown = known[:MOST_GROUPS]

    def draw(theme: Theme) -> Figure:
        figure = new_figure(height=0.8 + 0.5 * len(shown))
        axes = figure.subplots()
        places = list(range(len(shown)))
        axes.barh(places, [b for _, b, _ in shown], color=theme.grid, height=0.62)
        axes.barh(places, [a for _, _, a in shown], color=theme.bayes, height=0.62)
        for place, (_, before, after) in zip(places, shown, strict=True):
            label = f" {after:g} of {before:g}"
            axes.text(before, place, label, va="center", fontsize=9.5, color=theme.ink)
        axes.set_yticks(places, [group_name(group) for group, _, _ in shown])
        axes.tick_params(axis="y", labelcolor=theme.ink)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.3 * max((b for _, b, _ in shown), default=1.0) or 1.0)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("units, inputs" if len(hidden) < len(known) else "units")
        return figure

    hidden = [entry for entry in known if not is_input(entry[0])]
    before, after = sum(b for _, b, _ in hidden), sum(a for _, _, a in hidden)
    times = f", {factor(before / after)} fewer" if after else ""
    more = (
        f" The first {MOST_GROUPS} of {len(known)} groups are drawn."
        if len(known) > MOST_GROUPS
        else ""
    )
    caption = f"Pale: units of the original. Blue: those still there, {grouped(after)} of {grouped(before)} hidden units{times}.{more}"
    return Plate(
        "units", title, caption, "Bar chart of the units of each group before and after.", draw
    )
