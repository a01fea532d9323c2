"""What all trials of a study have in common, and what that makes of each."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from epigram import config
from epigram.errors import ConfigError
from epigram.search import identity
from epigram.search.dimensions import Value
from epigram.search.history import Phase, Trial
from epigram.search.objective import Objective
from epigram.search.space import Space, check_fits, current


@dataclass(frozen=True)
class Common:
    """Settings, task, widths and code of all trials.

    Args:
        base: all settings of a trial, of which the space varies some: a dataclass or a mapping.
        task: what else makes a trial what it is, as plain data.
        widths: the widths that the network has.
        code: stands for the code that trials run.
        scripts: digests of the files that trials run.

    Raises:
        ConfigError: the task is no plain data.
    """

    base: object = field(default_factory=dict)
    task: Mapping[str, Any] = field(default_factory=dict)
    widths: Mapping[str, int] = field(default_factory=dict)
    code: str = ""
    scripts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        identity.check_plain(dict(self.task), "task")

    def check(self, space: Space) -> None:
        """Refuse a space that the settings refuse.

        Raises:
            ConfigError: see ``space.check_fits``; or what is varied makes no difference to what a trial is.
        """
        check_fits(space, self.base, self.widths)
        for name, dimension in space.dimensions.items():
            ends = (dimension.at(0.0), dimension.at(1.0))
            first, last = (self.run_id({name: end}, seed=0) for end in ends)
            if first == last:
                why = "each trial has a seed of its own" if name == "seed" else "it is bookkeeping"
                raise ConfigError(
                    f"{name}: cannot be varied, trials would be the same ({why}); expected a setting that "
                    "a result depends on"
                )

    def first(self, space: Space) -> dict[str, Value]:
        """The known-safe point: what the settings have where nothing is varied."""
        return space.nearest(current(self.base, list(space.dimensions), self.widths))

    def identified(
        self, values: Mapping[str, Value], seed: int, phase: Phase
    ) -> tuple[dict[str, Any], Any]:
        """What makes a trial the run it is, and its bookkeeping apart.

        Raises:
            ConfigError: the settings refuse a value.
        """
        complete, bookkeeping = identity.resolved(self.base, values, seed=seed)
        extra: dict[str, Any] = {"task": dict(self.task), "seed": seed, "code": self.code}
        extra |= {"scripts": list(self.scripts)} if self.scripts else {}
        extra |= {"phase": phase} if phase == "confirm" else {}
        return {**complete, **extra}, bookkeeping

    def complete(self, trial: Trial, objective: Objective) -> dict[str, Any]:
        """All that a trial is trained with: ``config.json`` of its attempts."""
        identified, bookkeeping = self.identified(trial.values, trial.seed, trial.phase)
        return {
            "run_id": trial.run_id,
            "phase": trial.phase,
            "floor": str(objective.floor),
            "size_key": objective.size_key,
            "values": dict(trial.values),
            **identified,
            "bookkeeping": bookkeeping,
        }

    def run_id(self, values: Mapping[str, Value], seed: int, phase: Phase = "search") -> str:
        """The name of the run."""
        return identity.run_id(self.identified(values, seed, phase)[0])

    def plain(self) -> dict[str, Any]:
        """All but code and scripts, as JSON has it."""
        base = self.base
        if dataclasses.is_dataclass(base) and not isinstance(base, type):
            base = config.split_bookkeeping(base)[0]
        told = {"base": base, "task": dict(self.task), "widths": dict(self.widths)}
        loaded: dict[str, Any] = json.loads(json.dumps(told, allow_nan=False))
        return loaded
