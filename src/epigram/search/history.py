"""What a ledger says, trial by trial: a pure fold over its events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from epigram.search.dimensions import Value
from epigram.search.lines import Event

Kind: TypeAlias = Literal["finished", "stopped", "diverged", "failed"]
Phase: TypeAlias = Literal["search", "confirm"]
Script: TypeAlias = dict[str, str]
"""``name`` and ``sha256`` of a file that trials run."""

DURABLE: Final = frozenset({"opened", "asked", "started", "stop", "ended", "told", "confirmed"})
"""Events that change the state; ``lease``, ``curve``, ``forecast`` and ``alarm`` are not
flushed to the disk one by one: a power cut may take the last of them."""


@dataclass(frozen=True)
class Point:
    """One line of a trial's curve: what it had reached after so many steps.

    Attributes:
        step: how far, in the trial's own units (epochs).
        metric: the floor's metric; None = not measured.
        size: what a file would take; None = not known yet.
        warmup: the complexity term is still being phased in, so metric and size say little yet.
    """

    step: int
    metric: float | None
    size: float | None = None
    warmup: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a trial came out.

    Attributes:
        kind: ``finished`` (a result of its own), ``stopped`` (its forecast stands in for it),
            ``diverged`` (NaN) or ``failed`` (no usable result; ``note`` says why).
        metric: the floor's metric, as judged in the search; None = there is none.
        size: what is made small.
        examples: how many examples judged the metric; None = unknown.
        seconds: from its start to its end.
        note: one line for people.
        confirmation: metric and examples on the separate split, of trials that confirm.
        file: the file, relative to the study's folder; None = there is none.
        dense_size: the size before anything was done.
    """

    kind: Kind
    metric: float | None = None
    size: float | None = None
    examples: int | None = None
    seconds: float = 0.0
    note: str = ""
    confirmation: Mapping[str, Any] | None = None
    file: str | None = None
    dense_size: float | None = None

    @property
    def imputed(self) -> bool:
        """Are metric and size (as a sampler sees them) somebody's guess, not a measurement?"""
        return self.kind != "finished"


@dataclass
class Trial:
    """One run of the study, as the ledger knows it."""

    number: int
    run_id: str
    values: Mapping[str, Value]
    seed: int
    phase: Phase = "search"
    audit: bool = False
    steps: int | None = None
    design: str = ""
    """The run id of the first trial with these values: replicates have it in common."""
    sampler: str = ""
    ask_seconds: float = 0.0
    attempt: int = 0
    lease: Mapping[str, Any] | None = None
    running: bool = False
    would_stop: bool = False
    stop_reason: str | None = None
    outcome: Outcome | None = None
    told_seq: int = 0
    exits: list[Mapping[str, Any]] = field(default_factory=list)
    starts: list[Mapping[str, Any]] = field(default_factory=list)
    forecasts: list[Mapping[str, Any]] = field(default_factory=list)
    points: dict[int, list[Point]] = field(default_factory=dict)
    seen_at: dict[int, float] = field(default_factory=dict)
    """When each attempt was last heard of while its driver lived."""

    def curve(self) -> list[Point]:
        """The points of the latest attempt; before its first, those of the attempts before it."""
        merged: list[Point] = []
        for attempt in sorted(self.points):
            latest = self.points[attempt]
            if latest:
                merged = [point for point in merged if point.step < latest[0].step] + latest
        return merged

    @property
    def finished(self) -> bool:
        return self.outcome is not None and self.outcome.kind == "finished"


class History:
    """All trials of a study, in the order in which they were asked for."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.trials: dict[str, Trial] = {}
        self.finished: dict[str, Trial] = {}
        """Trials of the search with a result of their own, in the order in which they were told."""
        self.outcomes = 0
        """How often one was told: what is known of outcomes holds until it changes."""
        self.alarms: list[Mapping[str, Any]] = []
        self.confirmed: Mapping[str, Any] | None = None
        self.judged: frozenset[str] = frozenset()
        """Run ids of the trials that confirm which a verdict has had before it."""
        self.rounds = 0
        """Verdicts since a trial of the search was last told."""
        self._told_then = 0
        self.opened: Mapping[str, Any] | None = None
        self.containment: str | None = None
        self.scripts: list[Script] | None = None
        """What the last driver ran; None = it was not written down."""
        for event in events:
            self.add(event)

    def __iter__(self) -> Iterator[Trial]:
        return iter(self.trials.values())

    def __len__(self) -> int:
        return len(self.trials)

    def search(self) -> list[Trial]:
        """The trials of the search itself, without those that confirm."""
        return [trial for trial in self if trial.phase == "search"]

    def open_trials(self) -> list[Trial]:
        """Those whose outcome is not known yet."""
        return [trial for trial in self if trial.outcome is None]

    def told(self) -> int:
        """How many trials of the search have come out."""
        return sum(trial.outcome is not None for trial in self.search())

    def settle(self, trial: Trial, outcome: Outcome) -> None:
        """How one of the trials came out; what was known of it before is replaced."""
        trial.outcome = outcome
        self.outcomes += 1
        self.finished.pop(trial.run_id, None)
        if trial.finished and trial.phase == "search":
            self.finished[trial.run_id] = trial

    @property
    def verdict_holds(self) -> bool:
        """Is there a verdict, and has no trial of the search been told since?"""
        return self.confirmed is not None and self.told() == self._told_then

    def add(self, event: Event) -> None:
        """Take one more event into account."""
        getattr(self, f"_{event.type}", self._unknown)(event)

    def _unknown(self, event: Event) -> None:
        """Of a later version: what it says is not needed to go on."""

    def _opened(self, event: Event) -> None:
        self.opened = event.data
        for trial in self:
            trial.running = False

    def _driver(self, event: Event) -> None:
        self.containment = event.data["containment"]
        self.scripts = event.data.get("scripts")

    def _asked(self, event: Event) -> None:
        data = dict(event.data)
        trial = Trial(**data)
        trial.design = trial.design or trial.run_id
        self.trials[trial.run_id] = trial

    def _started(self, event: Event) -> None:
        trial = self.trials[event.data["run_id"]]
        trial.attempt = event.data["attempt"]
        trial.lease = None
        trial.running = True
        trial.starts.append(event.data)
        trial.seen_at[trial.attempt] = event.data.get("at", 0.0)

    def _lease(self, event: Event) -> None:
        self.trials[event.data["run_id"]].lease = event.data["lease"]

    def _curve(self, event: Event) -> None:
        data = event.data
        trial = self.trials[data["run_id"]]
        point = Point(
            data["step"], data.get("metric"), data.get("size"), bool(data.get("warmup", False))
        )
        trial.points.setdefault(data["attempt"], []).append(point)
        trial.steps = data.get("steps", trial.steps)
        if trial.running and "at" in data:
            trial.seen_at[data["attempt"]] = data["at"]

    def _forecast(self, event: Event) -> None:
        trial = self.trials[event.data["run_id"]]
        trial.forecasts.append({**event.data, "seq": event.seq})
        trial.would_stop = trial.would_stop or bool(event.data.get("would_stop"))

    def _stop(self, event: Event) -> None:
        self.trials[event.data["run_id"]].stop_reason = event.data["why"]

    def _ended(self, event: Event) -> None:
        trial = self.trials[event.data["run_id"]]
        trial.running = False
        trial.exits.append(event.data)

    def _told(self, event: Event) -> None:
        data = dict(event.data)
        trial = self.trials[data.pop("run_id")]
        data.pop("imputed", None)
        data.pop("at", None)
        trial.told_seq = event.seq
        self.settle(trial, Outcome(**data))

    def _alarm(self, event: Event) -> None:
        self.alarms.append(event.data)

    def _confirmed(self, event: Event) -> None:
        self.rounds = self.rounds + 1 if self.verdict_holds else 1
        self.confirmed = event.data
        self._told_then = self.told()
        self.judged = frozenset(
            trial.run_id for trial in self if trial.phase == "confirm" and trial.outcome is not None
        )
