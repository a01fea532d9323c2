"""Tables of curves that ``search_replay.py`` replays: of digits, made on the spot, or kept by ``search_lenet.py``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import digits_trials
import numpy as np

from epigram.records import Floor
from epigram.search import Objective, Outcome, Point, Space, Trial


@dataclass(frozen=True)
class Table:
    """Curves, and what they are of."""

    name: str
    space: Space
    objective: Objective
    trials: list[dict[str, Any]]
    examples: int
    warmup: int

    @property
    def steps(self) -> int:
        return len(self.trials[0]["curve"])

    def encoded(self) -> np.ndarray:
        return np.array([self.space.encode(self.space.nearest(t["values"])) for t in self.trials])

    def trial(self, row: int, number: int) -> Trial:
        """A row as a trial that has just begun."""
        name = f"run-{row:04d}"
        values = self.space.nearest(self.trials[row]["values"])
        return Trial(number, name, values, 0, design=name, steps=self.steps, attempt=1)

    def point(self, row: int, step: int) -> Point:
        accuracy, size = self.trials[row]["curve"][step - 1]
        return Point(step, accuracy, size or None, step <= self.warmup)

    def outcome(self, row: int) -> Outcome:
        one = self.trials[row]
        return Outcome("finished", one["accuracy"], one["size_bytes"], examples=self.examples)


def digits_table(count: int, folder: Path) -> Table:
    """Curves of the digits, made once; the first is the known-safe point, the others fill the space."""
    path = folder / f"digits-{count}.jsonl"
    if not path.exists():
        generator = np.random.default_rng(0)
        points = [
            digits_trials.SAFE,
            *(digits_trials.SPACE.random(generator) for _ in range(count - 1)),
        ]
        made = [digits_trials.run(values, seed=0) for values in points]
        digits_trials.write_table(path, made, {"table": "digits", "trials": count})
    _, trials = digits_trials.read_table(path)
    return Table(
        "digits",
        digits_trials.SPACE,
        Objective(Floor.parse(digits_trials.FLOOR)),
        trials,
        digits_trials.VALIDATION,
        digits_trials.EPOCHS // 4,
    )


def stored_table(path: Path) -> Table:
    """A table that ``search_lenet.py`` has kept."""
    about, trials = digits_trials.read_table(path)
    objective = Objective(Floor.parse(about["floor"]))
    space = Space.from_plain(about["space"])
    return Table(about["table"], space, objective, trials, about["examples"], about["warmup"])
