"""A study: trials asked for and told, for any training script in any framework.

    with Study("studies/a", space, floor="accuracy>=0.99") as study:
        while len(study) < 64:
            trial = study.ask()
            accuracy, size_bytes = train(**trial.values)
            study.tell(trial, accuracy=accuracy, size_bytes=size_bytes)
        print(study.best())

Its folder holds ``study.json`` (what can never change), ``ledger.jsonl`` (the truth) and ``runs/``. Killed
anywhere, the same lines go on: what was asked for and not told is handed out again, and what is proposed
next is what would have been proposed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, final

from epigram.errors import ConfigError
from epigram.records import Floor
from epigram.runner import fence
from epigram.search import asking, folder, identity, study_folder, watching
from epigram.search.asked import Asked
from epigram.search.common import Common
from epigram.search.dimensions import Value
from epigram.search.figures import outcome_of
from epigram.search.forecasting import Fit, Forecasting
from epigram.search.history import DURABLE, History, Outcome, Phase, Point, Script, Trial
from epigram.search.ledger import Ledger
from epigram.search.settings import StudySettings
from epigram.search.space import Space

_CONFIRM_SEED: Final = 1_000


@final
class Study:
    """Many runs towards the least size subject to a floor.

    Args:
        where: the study's folder; a new one, or that of this very study.
        space: what is searched.
        floor: the least acceptable value of a metric, ``"accuracy>=0.99"``.
        settings: how trials are proposed, watched and judged.
        base: all settings of a trial, of which ``space`` varies some: a dataclass or a mapping.
        task: what else makes a trial what it is, as plain data: recipe, data fingerprints, network.
        widths: the widths that the network has, where ``space`` varies some.
        code: stands for the code that trials run.
        allow_code_change: go on with a study whose code has changed; new trials are new runs.
        fit: makes forecasters; None = extremely randomised trees.
        clock: seconds; for what happened when.

    Raises:
        ConfigError: the space does not fit the settings.

    Raises (on entering):
        RunFolderError: the folder holds another study, or another process drives it.
        LedgerError: the ledger is damaged.
        StorageError: the folder cannot be written.
    """

    def __init__(
        self,
        where: str | os.PathLike[str],
        space: Space,
        *,
        floor: str | Floor,
        settings: StudySettings | None = None,
        base: object = None,
        task: Mapping[str, Any] | None = None,
        widths: Mapping[str, int] | None = None,
        code: str = "",
        allow_code_change: bool = False,
        fit: Fit | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder = Path(where)
        self.space = space
        self.settings = settings or StudySettings()
        self.objective = self.settings.objective(Floor.parse(floor))
        self.history = History()
        self._common = Common({} if base is None else base, task or {}, widths or {}, code)
        self._common.check(space)
        self._allow_code_change = allow_code_change
        self._clock = clock
        self._ledger = Ledger(self.folder)
        self._forecasting = (
            Forecasting(self.objective, space, looks=self.settings.looks, fit=fit)
            if self.settings.forecasts
            else None
        )

    def __enter__(self) -> Study:
        study_folder.refuse_strangers(self.folder)
        self._ledger.__enter__()
        try:
            fixed = study_folder.fixed(self.space, self.objective, self.settings, self._common)
            study_folder.claim(self.folder, fixed)
            self.history = History(self._ledger.events)
            self._ledger.events = []
            code = self._common.code
            if not self._allow_code_change:
                study_folder.check_code(self.folder, self.history.opened, code)
            self.record("opened", {"code": code, "at": self.now(), "pid": os.getpid()})
        except BaseException:
            self._ledger.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the ledger; the study can be opened again."""
        self._ledger.close()

    def __len__(self) -> int:
        """How many trials of the search have been told."""
        return self.history.told()

    # --- ask ------------------------------------------------------------------------------------

    def ask(self) -> Asked:
        """A trial to run: one that was interrupted, or else a new one.

        Raises:
            HeldError: an earlier attempt at it still lives and does not let go of its files.
        """
        waiting = [trial for trial in self.history.open_trials() if not trial.running]
        asked = self.begin(waiting[0] if waiting else self.propose())
        fence.claim(asked.run_folder, asked.attempt)
        return asked

    def propose(self) -> Trial:
        """A new trial of the search; it is in the ledger when this returns."""
        next_ = asking.proposal(
            self.settings, self.space, self._common, self.objective, self.history.search()
        )
        return self._asked(
            next_.values,
            next_.seed,
            "search",
            design=next_.design,
            sampler=next_.sampler,
            ask_seconds=next_.ask_seconds,
        )

    def repeat(self, trial: Trial, index: int) -> Trial:
        """A trial's design once more, with the ``index``-th seed of those that confirm."""
        seed = self.settings.seed + _CONFIRM_SEED + index
        known = self._common.run_id(trial.values, seed, "confirm")
        if known in self.history.trials:
            return self.history.trials[known]
        return self._asked(dict(trial.values), seed, "confirm", design=trial.design)

    def begin(self, trial: Trial, *, slot: str = "") -> Asked:
        """A new attempt at a trial: its folder is made. Whoever starts it fences off earlier ones."""
        run = self.run_folder(trial)
        complete = self._common.complete(trial, self.objective)
        attempt = max(trial.attempt, fence.latest(run)) + 1
        self.record(
            "started", {"run_id": trial.run_id, "attempt": attempt, "slot": slot, "at": self.now()}
        )
        where = folder.prepare_attempt(run, complete, attempt)
        return Asked(
            trial.run_id, trial.number, trial.values, complete, where, run, attempt, trial.seed
        )

    def run_folder(self, trial: Trial) -> Path:
        """Where a trial's attempts and checkpoints lie."""
        return self.folder / "runs" / trial.run_id

    # --- tell -----------------------------------------------------------------------------------

    def tell(self, asked: Asked, **figures: float) -> Outcome:
        """How a trial came out: by its figures, or (without any) by the ``result.json`` it wrote.

        NaN and infinities are told as *diverged*; an unusable ``result.json`` as *failed*.

        Raises:
            ConfigError: the trial is unknown or was told before, or a figure is missing.
        """
        trial = self.history.trials.get(asked.run_id)
        if trial is None or trial.outcome is not None:
            what = "unknown" if trial is None else "told already"
            raise ConfigError(
                f"tell: run {asked.run_id} is {what}; expected one that was asked for"
            )
        if not figures:
            outcome = folder.read_result(asked.folder, asked.run_id, asked.attempt, self.objective)
            return self.record_outcome(trial, outcome)
        return self.record_outcome(trial, outcome_of(figures, self.objective))

    def record_outcome(self, trial: Trial, outcome: Outcome) -> Outcome:
        """Write down how a trial came out, and look at what that says of the forecasts."""
        plain = {k: v for k, v in asdict(outcome).items() if v not in (None, "")}
        self.record(
            "told",
            {"run_id": trial.run_id, **plain, "imputed": outcome.imputed, "at": self.now()},
        )
        for alarm in watching.new_alarms(self):
            self.record("alarm", alarm)
        return outcome

    def report_point(self, trial: Trial, point: Point, *, steps: int | None = None) -> str | None:
        """One more point of a trial's curve; returns why the trial should be stopped, or None."""
        data = {"run_id": trial.run_id, "attempt": max(1, trial.attempt), "step": point.step}
        data |= {} if point.metric is None else {"metric": point.metric}
        data |= {} if point.size is None else {"size": point.size}
        data |= {"warmup": True} if point.warmup else {}
        data |= {} if steps is None else {"steps": steps}
        data["at"] = self.now()
        self.record("curve", data)
        return watching.verdict(self, trial, self._forecasting)

    # --- what is known --------------------------------------------------------------------------

    def feasible(self) -> list[Trial]:
        """Finished trials of the search that meet the floor with the margin, the smallest first."""
        return watching.feasible(self.history, self.objective)

    def best(self) -> Trial | None:
        """The smallest of them; None if no trial is feasible (see ``nearest``)."""
        return watching.best(self.history, self.objective)

    def nearest(self) -> Trial | None:
        """The finished trial that falls short of the floor by least; None if none has finished."""
        return watching.nearest(self.history, self.objective)

    # --- inside ---------------------------------------------------------------------------------

    def record(self, kind: str, data: Mapping[str, Any]) -> None:
        """Write one event and take it into account; for the study itself and its own driver."""
        self.history.add(self._ledger.append(kind, data, durable=kind in DURABLE))

    def run_by(self, scripts: list[Script]) -> None:
        """From now on trials run these files, which makes them the runs they are; for a study's own driver.

        Raises:
            RunFolderError: they are not those of before, and ``allow_code_change`` is not given.
        """
        if not self._allow_code_change:
            study_folder.check_scripts(self.folder, self.history.scripts, scripts)
        self._common = replace(self._common, scripts=tuple(one["sha256"] for one in scripts))

    def now(self) -> float:
        """The clock, to the millisecond."""
        return round(self._clock(), 3)

    def _asked(
        self, values: dict[str, Value], seed: int, phase: Phase, *, design: str, **more: Any
    ) -> Trial:
        identified, _ = self._common.identified(values, seed, phase)
        run_id = identity.run_id(identified)
        number = len(self.history)
        folder.claim(
            self.folder / "runs" / run_id,
            {"schema": identity.SCHEMA, "run_id": run_id, **identified},
        )
        data = {"number": number, "run_id": run_id, "values": values, "seed": seed, "phase": phase}
        data |= {"design": design, **more}
        if phase == "search" and watching.audits(self.settings, number):
            data["audit"] = True
        self.record("asked", data)
        return self.history.trials[run_id]
