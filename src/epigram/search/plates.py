"""Pictures of a search: what was reached, by which path, where and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from epigram.report.plates import Absent, Plate
from epigram.report.style import Theme, legend_above, log_ticks, new_figure
from epigram.report.words import grouped, plain_number
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
        legend_above(axes, columns=3)
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
        legend_above(axes)
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
