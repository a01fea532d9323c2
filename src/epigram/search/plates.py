"""Pictures of a search: what was reached, by which path, where and when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from epigram.report.plates import Absent, Plate
from epigram.report.style import Theme, log_ticks, new_figure
from epigram.report.words import counted, duration, grouped, plain_number
from epigram.search import watching
from epigram.search.history import History, Trial
from epigram.search.objective import Objective


@dataclass(frozen=True)
class Seen:
    """What the pictures are drawn from."""

    history: History
    objective: Objective

    @property
    def finished(self) -> list[Trial]:
        return [trial for trial in self.history.search() if trial.finished]

    def error(self, trial: Trial) -> float:
        """The error that was judged, in per cent where it is a share."""
        assert trial.outcome is not None
        assert trial.outcome.metric is not None
        return self.objective.error(trial.outcome.metric) * self.scale

    @property
    def scale(self) -> float:
        return 100.0 if self.objective.is_share else 1.0

    @property
    def error_words(self) -> str:
        if not self.objective.floor.larger_is_better:
            return self.objective.floor.metric
        return "error, %" if self.objective.is_share else f"minus {self.objective.floor.metric}"

    @property
    def size_words(self) -> str:
        return self.objective.size_key.replace("_", " ")


def size_of(trial: Trial) -> float:
    """What was made small."""
    assert trial.outcome is not None
    assert trial.outcome.size is not None
    return trial.outcome.size


def front(trials: Sequence[Trial], seen: Seen) -> list[Trial]:
    """The trials that no other beats in both size and error, the smallest first."""
    best: list[Trial] = []
    for trial in sorted(trials, key=lambda t: (size_of(t), seen.error(t))):
        if not best or seen.error(trial) < seen.error(best[-1]):
            best.append(trial)
    return best


def pareto(seen: Seen) -> Plate | Absent:
    """Size against error, the floor, and the trials that no other beats in both."""
    title = "Size against error"
    trials = seen.finished
    if not trials:
        return Absent(title, "No trial has finished, so there is nothing to compare.")
    confirming = [t for t in seen.history if t.phase == "confirm" and t.finished]
    winner = _winner(seen.history)

    def draw(theme: Theme) -> Figure:
        figure = new_figure(height=4.2)
        axes = figure.subplots()
        _dots(axes, trials, seen, theme.plain, "trials")
        line = front(trials, seen)
        axes.step(
            [size_of(t) for t in line],
            [seen.error(t) for t in line],
            where="post",
            color=theme.bayes,
            label="not beaten in both",
        )
        _dots(axes, confirming, seen, theme.third, "new seeds")
        if winner is not None:
            axes.scatter(
                [size_of(winner)],
                [seen.error(winner)],
                s=110,
                marker="*",
                color=theme.removed,
                zorder=5,
                label="confirmed",
            )
        axes.axhline(
            seen.objective.limit * seen.scale, color=theme.removed, linewidth=1.2, label="floor"
        )
        axes.set_xscale("log")
        log_ticks(axes.xaxis, grouped)
        if min(seen.error(t) for t in trials) > 0:
            axes.set_yscale("log")
            log_ticks(axes.yaxis, "{:g}".format)
        axes.set_xlabel(seen.size_words)
        axes.set_ylabel(seen.error_words)
        axes.legend(loc="upper right")
        return figure

    caption = (
        "One dot per finished trial, as judged while searching; below the orange line the floor is met. "
        "The blue line joins the trials that no other beats in both size and error."
    )
    return Plate(
        "pareto", title, caption, "Scatter plot of size against error of all trials.", draw
    )


def path(seen: Seen) -> Plate | Absent:
    """The smallest feasible size so far, over the trials."""
    title = "The best so far"
    told = sorted(
        (t for t in seen.history.search() if t.outcome is not None), key=lambda t: t.told_seq
    )
    good = {t.run_id for t in watching.feasible(seen.history, seen.objective)}
    places = [(at, t) for at, t in enumerate(told, start=1) if t.run_id in good]
    if not places:
        return Absent(title, "No trial meets the floor with the margin, so there is no best one.")

    def draw(theme: Theme) -> Figure:
        figure = new_figure(height=3.2)
        axes = figure.subplots()
        axes.scatter(
            [at for at, _ in places],
            [size_of(t) for _, t in places],
            s=16,
            color=theme.plain,
            label="feasible trials",
        )
        at, best = running_best([(at, size_of(t)) for at, t in places], last=len(told))
        axes.step(at, best, where="post", color=theme.bayes, label="smallest so far")
        axes.set_yscale("log")
        log_ticks(axes.yaxis, grouped)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("trials told")
        axes.set_ylabel(seen.size_words)
        axes.legend(loc="upper right")
        return figure

    caption = (
        "Only trials that meet the floor with the margin count; the vertical axis is logarithmic."
    )
    return Plate("best", title, caption, "Line plot of the smallest feasible size so far.", draw)


def running_best(
    points: Sequence[tuple[int, float]], *, last: int
) -> tuple[list[int], list[float]]:
    """The running minimum, drawn on to the last trial.

    Example:
        >>> running_best([(2, 5.0), (3, 7.0), (6, 4.0)], last=8)
        ([2, 6, 8], [5.0, 4.0, 4.0])
    """
    at: list[int] = []
    best: list[float] = []
    for place, size in points:
        if not best or size < best[-1]:
            at.append(place)
            best.append(size)
    if at and at[-1] != last:
        at.append(last)
        best.append(best[-1])
    return at, best


@dataclass(frozen=True)
class Bar:
    """One attempt on its slot, in seconds since the study began."""

    slot: str
    begin: float
    end: float
    kind: str


def bars(history: History) -> list[Bar]:
    """Every attempt whose beginning and end are known; time between two sittings is left out."""
    spans: list[tuple[str, float, float, str]] = []
    for trial in history:
        ends = {one["attempt"]: one for one in trial.exits}
        for start in trial.starts:
            end = ends.get(start["attempt"])
            if end is not None and start.get("slot"):
                last = trial.outcome is not None and start["attempt"] == trial.attempt
                kind = trial.outcome.kind if last and trial.outcome else "again"
                spans.append((start["slot"], start["at"], end["at"], kind))
    origin = min((begin for _, begin, _, _ in spans), default=0.0)
    return [Bar(slot, begin - origin, end - origin, kind) for slot, begin, end, kind in spans]


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
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=len(shown))
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
        axes.legend(loc="lower right")
        return figure

    caption = (
        "PED-ANOVA over all finished trials: how much a setting alone distinguishes the better half. "
        "A setting that matters only together with others shows less."
    )
    return Plate("importances", title, caption, "Bars of the importance of each setting.", draw)


def told(trial: Trial, seen: Seen) -> dict[str, Any]:
    """One line of the table of trials."""
    outcome = trial.outcome
    measured = outcome is not None and outcome.metric is not None and outcome.size is not None
    return {
        "trial": str(trial.number),
        "run": trial.run_id,
        "how": "" if outcome is None else outcome.kind,
        "size": grouped(size_of(trial)) if measured else "",
        "error": plain_number(seen.error(trial)) if measured else "",
        "by": trial.sampler or trial.phase,
        "note": "" if outcome is None else outcome.note,
    }


def _dots(axes: Axes, trials: Sequence[Trial], seen: Seen, colour: str, label: str) -> None:
    if trials:
        axes.scatter(
            [size_of(t) for t in trials],
            [seen.error(t) for t in trials],
            s=18,
            color=colour,
            label=label,
        )


def _winner(history: History) -> Trial | None:
    confirmed = history.confirmed
    if confirmed is None or confirmed["run_id"] is None:
        return None
    return history.trials[confirmed["run_id"]]
