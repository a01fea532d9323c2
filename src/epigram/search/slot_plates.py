"""Pictures of a search: which trial ran where and when, and which settings matter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from matplotlib.figure import Figure

from epigram.report.plates import Absent, Plate
from epigram.report.style import Theme, legend_above, new_figure
from epigram.report.words import counted, duration
from epigram.search.history import History
from epigram.search.plates import Seen


@dataclass(frozen=True)
class Bar:
    """One attempt on its slot, in seconds since the study began.

    Attributes:
        trial: its number.
        attempt: 1, 2, …
        slot: where it ran.
        begin: when it was started.
        end: when it ended; where nobody saw its end, when it was last heard of.
        kind: how the trial came out, if this was its last attempt; else ``again``.
        reason: why it ended, as the runner says; empty = nobody saw.
        signal: that ended it; None = none.
        note: one line for people.
    """

    trial: int
    attempt: int
    slot: str
    begin: float
    end: float
    kind: str
    reason: str = ""
    signal: int | None = None
    note: str = ""


def bars(history: History) -> list[Bar]:
    """Every attempt on a slot; one whose driver died lasts until it was last heard of."""
    found = []
    for trial in history:
        ends = {one["attempt"]: one for one in trial.exits}
        for start in (one for one in trial.starts if one.get("slot")):
            number = start["attempt"]
            end = ends.get(number, {})
            seen = end.get("reason", "") not in ("", "driver-lost")
            last = trial.outcome is not None and number == trial.attempt
            found.append(
                Bar(
                    trial.number,
                    number,
                    start["slot"],
                    start["at"],
                    end["at"] if seen else trial.seen_at[number],
                    trial.outcome.kind if last and trial.outcome else "again",
                    end.get("reason", ""),
                    end.get("signal"),
                    "; ".join(filter(None, (trial.stop_reason if last else "", end.get("note")))),
                )
            )
    origin = min((bar.begin for bar in found), default=0.0)
    return [replace(bar, begin=bar.begin - origin, end=bar.end - origin) for bar in found]


def slots(seen: Seen) -> Plate | Absent:
    """Which trial ran where and when, and how it ended."""
    title = "Slots over time"
    spans = bars(seen.history)
    if not spans:
        return Absent(title, "No driver has run trials of this study, so no slots were taken.")
    names = sorted({bar.slot for bar in spans})

    def draw(theme: Theme) -> Figure:
        colours = {
            "finished": theme.bayes,
            "stopped": theme.removed,
            "diverged": theme.cycle[3],
            "failed": theme.cycle[1],
            "again": theme.plain,
        }
        figure = new_figure(height=1.5 + 0.35 * len(names))
        axes = figure.subplots()
        shown: set[str] = set()
        for bar in spans:
            axes.barh(
                names.index(bar.slot),
                bar.end - bar.begin,
                left=bar.begin,
                height=0.7,
                color=colours[bar.kind],
                edgecolor=theme.surface,
                linewidth=0.6,
                label="_" if bar.kind in shown else bar.kind,
            )
            shown.add(bar.kind)
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("seconds since the first trial")
        axes.grid(visible=False, axis="y")
        legend_above(axes, columns=4)
        return figure

    total = max(bar.end for bar in spans)
    caption = (
        f"{counted(len(spans), 'attempt')} on {counted(len(names), 'slot')} within {duration(total)}. "
        "Grey: an attempt after which the same trial was begun again."
    )
    return Plate("slots", title, caption, "Bars of attempts on each slot over time.", draw)


def importances(shares: Mapping[str, Mapping[str, float]]) -> Plate | Absent:
    """How much each varied setting matters for size and for error."""
    title = "What matters"
    if not shares:
        return Absent(title, "Too few trials have finished to tell which settings matter.")
    names = sorted(next(iter(shares.values())), key=lambda n: sum(s[n] for s in shares.values()))

    def draw(theme: Theme) -> Figure:
        figure = new_figure(height=1.4 + 0.34 * len(names))
        axes = figure.subplots()
        colours = (theme.bayes, theme.removed)
        for place, (what, share) in enumerate(shares.items()):
            offset = (place - (len(shares) - 1) / 2) * 0.36
            axes.barh(
                [at - offset for at in range(len(names))],
                [100 * share[name] for name in names],
                height=0.34,
                color=colours[place % 2],
                label=what,
            )
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("share of what the settings explain, %")
        legend_above(axes)
        return figure

    caption = (
        "PED-ANOVA over all finished trials: how much a setting alone distinguishes the better half. "
        "A setting that matters only together with others shows less."
    )
    return Plate("importances", title, caption, "Bars of the importance of each setting.", draw)
