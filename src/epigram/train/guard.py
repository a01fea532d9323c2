"""Stop at the first loss, gradient or parameter that is not finite, and say exactly where.

Looking at every step would make every step wait for the device. So the guard looks every k steps, at
sums that a single NaN spoils for good, and keeps a snapshot of the last good state. When a look finds
something, the steps since the snapshot are run again one by one (the batches are a pure function of
seed and epoch, the random numbers are in the snapshot) until the bad one is found.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from torch import Tensor

from epigram.errors import NonFiniteError
from epigram.train.bundle import write_bundle
from epigram.train.examine import Finding, examine
from epigram.train.run import Run

Batch: TypeAlias = tuple[Tensor, Tensor]
OpenBatches: TypeAlias = Callable[[], Iterator[Batch]]
"""The current epoch's batches from ``run.place.batch`` on."""


class Guard:
    """Watches one run.

    Args:
        run: what is watched.
        folder: where a failure bundle goes.
        stage: the stage's name.
        seed: the run's seed.
        open_batches: gives the current epoch's batches again, from the place the run is at.
    """

    def __init__(
        self, run: Run, *, folder: Path, stage: str, seed: int, open_batches: OpenBatches
    ) -> None:
        self._run = run
        self._folder = folder
        self._stage = stage
        self._seed = seed
        self._open_batches = open_batches
        self._every = run.settings.guard_every_steps
        self._snapshot: dict[str, Any] | None = None

    def begin(self) -> None:
        """Remember the present state as the last good one (at the start of an epoch)."""
        if self._every:
            self._snapshot = copy.deepcopy(self._run.state())

    def after_step(self) -> None:
        """Look, if it is time.

        Raises:
            NonFiniteError: something was not finite since the last look.
        """
        if self._every and self._run.place.batch % self._every == 0:
            self.look()
            self.begin()

    def look(self) -> None:
        """Look now; waits for the device.

        Raises:
            NonFiniteError: something was not finite since the last look.
        """
        if self._every and not self._run.healthy():
            self._hunt()

    def _hunt(self) -> NoReturn:
        """Run again from the snapshot, find the bad step, write it down, and stop."""
        if self._run.team.size > 1:
            place = self._run.place
            raise NonFiniteError(
                f"stage {self._stage!r}, epoch {place.epoch + 1}, within the {self._every} steps before "
                f"step {place.step}: a NaN or infinity in one of {self._run.team.size} processes; train "
                "with a single process to have the step kept and its first bad tensor named"
            )
        run, until = self._run, self._run.place.step
        assert self._snapshot is not None, "begin() comes before the first step"
        run.restore(self._snapshot)
        first: Batch | None = None
        for batch in self._open_batches():
            before = copy.deepcopy(run.state())
            first = first or batch
            run.step(*batch)
            if not run.healthy():
                run.restore(before)
                finding = examine(run, *batch)
                self._stop(before, batch, finding)
            if run.place.step == until:
                break
        assert first is not None, "a step was taken, so there was a batch"
        self._stop(self._snapshot, first, None)

    def _stop(self, state: dict[str, Any], batch: Batch, finding: Finding | None) -> NoReturn:
        bundle = write_bundle(
            self._folder,
            self._run,
            stage=self._stage,
            seed=self._seed,
            state=state,
            batch=batch,
            finding=finding,
        )
        place = state["place"]
        if finding is None:
            what = "a NaN or infinity turned up that did not come again when run a second time"
        else:
            what = f"not finite: {finding}"
        raise NonFiniteError(
            f"stage {self._stage!r}, epoch {place['epoch'] + 1}, step {place['step'] + 1}: {what}. "
            f"The step is kept in {bundle}: `epigram replay {bundle}` runs it again",
            bundle=bundle,
        )
