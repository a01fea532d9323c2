"""A stage while it runs: the order of steps, checks, checkpoints and evaluations."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from epigram.errors import InterruptedRunError
from epigram.train.checkpoint import save_checkpoint
from epigram.train.guard import Guard
from epigram.train.learner import EpochEnd
from epigram.train.metrics import append_metrics, drop_after
from epigram.train.optimizers import check_optimizer_state
from epigram.train.progress import Progress
from epigram.train.run import Run
from epigram.train.scalars import Scalars
from epigram.train.signals import StopSignals

Stop = Callable[[], bool]


@dataclass
class Stage:
    """The loop's parts, and the order in which they are called."""

    run: Run
    folder: Path
    about: dict[str, Any]
    open_batches: Callable[[], Iterator[tuple[Tensor, Tensor]]]
    control: Callable[..., Any] | None
    progress: Progress | None
    stop: Stop
    signals: StopSignals

    def train(self, session: ExitStack) -> bool:
        """Train until the stage is complete (True) or ``stop`` ends it (False)."""
        run, settings = self.run, self.run.settings
        self.stage = str(self.about["stage"])
        self.metrics = self.folder / "metrics.jsonl"
        self.team = run.team
        done = run.place.epoch
        self.team.led(lambda: drop_after(self.metrics, stage=self.stage, epoch=done))
        if run.place.epoch >= settings.epochs:
            return True
        self.scalars = self._open_scalars(session)
        if self.progress is not None:
            self.progress.begin(
                stage=self.stage,
                epochs=settings.epochs,
                steps_per_epoch=run.schedule.steps_per_epoch,
                step=run.place.step,
            )
            session.callback(self.progress.end)
        self.guard = Guard(
            run,
            folder=self.folder,
            stage=self.stage,
            seed=int(self.about["seed"]),
            open_batches=self.open_batches,
        )
        self.saved_at = time.monotonic()
        while run.place.epoch < settings.epochs:
            if not self._epoch():
                return False
        return True

    def _open_scalars(self, session: ExitStack) -> Scalars | None:
        if not self.run.settings.tensorboard or not self.team.leads:
            return None
        scalars = Scalars(self.folder, self.stage, first_step=self.run.place.step)
        session.callback(scalars.close)
        return scalars

    def _epoch(self) -> bool:
        """The rest of the current epoch; False if ``stop`` ended the run."""
        run, place = self.run, self.run.place
        learner = run.learner
        learner.module.train()
        self.started = time.monotonic()
        self.guard.begin()
        for x, y in self.open_batches():
            run.step(x, y)
            self.guard.after_step()
            if self.progress is not None and self.progress.due():
                self.progress.update(step=place.step, train=self._averages())
            if place.batch < run.schedule.steps_per_epoch and self._leave():
                return False
        self.guard.look()
        self._finish_epoch()
        more = place.epoch < run.settings.epochs
        asked, stop = self.team.any_of(self.signals.requested is not None, more and self.stop())
        if asked or stop:
            self._checkpoint()
            self._raise_if(asked)
            return False
        if not more or place.epoch % run.settings.checkpoint_every_epochs == 0:
            self._checkpoint()
        return True

    def _leave(self) -> bool:
        """Within an epoch: write a checkpoint if it is time to, or if the run shall end here."""
        every = self.run.settings.checkpoint_every_seconds
        asked, stopping, due = self.team.any_of(
            self.signals.requested is not None,
            self.stop(),
            every is not None and time.monotonic() - self.saved_at >= every,
        )
        if asked or stopping or due:
            self.guard.look()
            self._count_time()
            self._checkpoint()
            self._raise_if(asked)
        return stopping

    def _raise_if(self, asked: bool) -> None:
        if asked:
            place = self.run.place
            by = self.signals.requested or "a signal to another process"
            raise InterruptedRunError(
                f"stage {self.stage!r} was stopped by {by} after step "
                f"{place.step} ({place.epoch} of {self.run.settings.epochs} epochs done); a "
                "checkpoint is written, and the same command goes on from there"
            )

    def _averages(self) -> dict[str, float]:
        return self.run.place.averages()

    def _count_time(self) -> None:
        now = time.monotonic()
        self.run.place.seconds += now - self.started
        self.started = now

    def _checkpoint(self) -> None:
        save_checkpoint(self.folder, self.run, about=self.about)
        self.saved_at = time.monotonic()

    def _finish_epoch(self) -> None:
        """Evaluate, tell the learner (which may shrink), log, and turn the page."""
        run, place = self.run, self.run.place
        place.pool_(self.team)
        train = self._averages()
        learning_rate = run.schedule.learning_rate(place.step - 1)
        self._count_time()
        step_ms = 1e3 * place.seconds / place.batch
        epoch = place.epoch + 1
        control = self._evaluate_control(epoch)
        end = EpochEnd(
            stage=self.stage,
            epoch=epoch,
            epochs=run.settings.epochs,
            step=place.step,
            train=train,
            control=control,
            optimizer=run.optimizer,
        )
        told = run.learner.end_of_epoch(end)
        check_optimizer_state(run.optimizer)
        run.lay_out_()
        self.team.check_same(run.learner.module, when=f"after epoch {epoch}")
        self._count_time()
        record = {
            "stage": self.stage,
            "epoch": epoch,
            "step": place.step,
            "seconds": round(place.seconds, 4),
            "step_ms": round(step_ms, 4),
            "learning_rate": learning_rate,
            "train": train,
            **({"control": control} if control else {}),
            **told,
        }
        self.team.led(lambda: append_metrics(self.metrics, record))
        if self.scalars is not None:
            self.scalars.write(record)
        if self.progress is not None:
            self.progress.epoch(record)
        place.epoch = epoch
        place.begin_epoch()

    def _evaluate_control(self, epoch: int) -> dict[str, float]:
        settings = self.run.settings
        due = epoch % settings.control_every_epochs == 0 or epoch == settings.epochs
        if self.control is None or not due:
            return {}
        module, control = self.run.learner.module, self.control
        figures: dict[str, Any] = self.team.led(lambda: control(module).figures())
        module.train()
        return {k: float(v) for k, v in figures.items() if k not in ("n", "error_percent")}
