"""Run a failed step again, from its bundle alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from epigram.train.bundle import read_bundle
from epigram.train.examine import Finding, examine
from epigram.train.learner import Learner
from epigram.train.run import Run
from epigram.train.schedule import Schedule
from epigram.train.state import seeded


@dataclass(frozen=True)
class ReplayReport:
    """What a replay saw.

    Attributes:
        bundle: the folder that was replayed.
        stage: the stage that failed.
        epoch: counted from 1.
        step: of the stage, counted from 1.
        recorded: what the run found when it failed.
        found: what the replay found; None if all was finite this time.
    """

    bundle: Path
    stage: str
    epoch: int
    step: int
    recorded: Finding | None
    found: Finding | None

    @property
    def reproduced(self) -> bool:
        """Did the replay find the same tensor?"""
        return self.found is not None and self.found == self.recorded

    def __str__(self) -> str:
        where = f"{self.bundle}: stage {self.stage!r}, epoch {self.epoch}, step {self.step}"
        if self.found is None:
            return f"{where}: everything was finite this time; recorded: {self.recorded}"
        same = "as recorded" if self.reproduced else f"recorded: {self.recorded}"
        return f"{where}: first bad tensor: {self.found} ({same})"


def replay(
    bundle: str | Path,
    build_learner: Callable[[Mapping[str, Any]], Learner],
    *,
    device: str | torch.device = "cpu",
) -> ReplayReport:
    """Run the step in ``bundle`` again with hooks on every module, and name the first bad tensor.

    Args:
        bundle: a ``failure-NNNN`` folder.
        build_learner: makes the learner as it was when the stage began (same network, same loss);
            it is given the bundle's own account: stage, seed, settings, epoch, step.
        device: where to run.

    Raises:
        FormatError: ``bundle`` is not a bundle, or is damaged.
    """
    where = torch.device(device)
    read = read_bundle(Path(bundle), device=where)
    learner = build_learner(read.about)
    learner.module.to(where)
    learner.load_state(read.state["learner"])
    schedule = Schedule(read.settings, int(read.about["steps_per_epoch"]))
    run = Run(learner, read.settings, schedule, where)
    with seeded(int(read.about["seed"]), where):
        run.restore(read.state)
        learner.module.train()
        found = examine(run, read.x, read.y)
    return ReplayReport(
        bundle=read.path,
        stage=str(read.about["stage"]),
        epoch=int(read.about["epoch"]),
        step=int(read.about["step"]),
        recorded=read.finding,
        found=found,
    )
