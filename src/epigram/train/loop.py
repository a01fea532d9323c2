"""The loop: one stage of training, for plain and Bayesian networks and for fine-tuning alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from epigram.data import Augment, TensorSet, batches, batches_per_epoch
from epigram.errors import ConfigError, InterruptedRunError
from epigram.evaluate import Metric, evaluate
from epigram.objective import check_num_train_examples
from epigram.train.checkpoint import about_run, load_checkpoint, save_checkpoint
from epigram.train.guard import Guard
from epigram.train.learner import EpochEnd, Learner
from epigram.train.metrics import append_metrics, drop_after, read_metrics
from epigram.train.optimizers import check_optimizer_state
from epigram.train.progress import Progress, ProgressLine
from epigram.train.run import Run
from epigram.train.scalars import Scalars
from epigram.train.schedule import Schedule
from epigram.train.settings import TrainSettings
from epigram.train.signals import StopSignals
from epigram.train.state import seeded

Stop = Callable[[], bool]
Preprocessing = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class FitResult:
    """What a stage has come to.

    Attributes:
        stage: its name.
        completed: False if ``stop`` ended it early; the same call goes on.
        epochs: epochs done, over all sessions.
        steps: optimiser steps done, over all sessions.
        resumed: did it go on from a checkpoint?
        history: the stage's lines of ``metrics.jsonl``, one per epoch.
    """

    stage: str
    completed: bool
    epochs: int
    steps: int
    resumed: bool
    history: tuple[Mapping[str, Any], ...]

    @property
    def seconds(self) -> float:
        """Time the epochs took, over all sessions."""
        return sum(float(record["seconds"]) for record in self.history)

    @property
    def last(self) -> Mapping[str, Any]:
        """The last epoch's line; empty if no epoch was done."""
        return self.history[-1] if self.history else {}


def fit(
    learner: Learner,
    fit_set: TensorSet,
    settings: TrainSettings,
    *,
    folder: str | Path,
    stage: str,
    seed: int,
    control_set: TensorSet | None = None,
    preprocess: Preprocessing | None = None,
    augment: Augment | None = None,
    device: str | torch.device = "cpu",
    progress: Progress | Literal["auto"] | None = "auto",
    stop: Stop | None = None,
    metrics: Mapping[str, Metric] | None = None,
) -> FitResult:
    """Train ``learner`` for ``settings.epochs`` epochs, or go on where an earlier call was stopped.

    Called again with the same arguments after a kill at any moment, it ends with the same weights to
    the bit, and ``metrics.jsonl`` has every epoch once. A completed stage is loaded, not trained.

    Args:
        learner: what is trained, in place; on a resume it must come as it came the first time.
        fit_set: the examples; their number is N.
        settings: how.
        folder: the run's folder; holds ``metrics.jsonl``, ``checkpoints/`` and ``tensorboard/``.
        stage: names the stage in all of these.
        seed: of the data order, the augmentation and all noise.
        control_set: evaluated after the epochs; its figures go to the learner and the metrics.
        preprocess: applied to every batch, on the device.
        augment: applied to the fit set's batches only.
        device: where to train; the learner and the data are moved there.
        progress: ``"auto"`` for a live line, None for silence, or anything with the same methods.
        stop: asked after every step; once it says True the run ends in order (see ``deadline``).
        metrics: the caller's own, computed on the control set beside accuracy and NLL.

    Raises:
        ConfigError: the learner's N is not the length of ``fit_set``.
        RunFolderError: the folder holds this stage under other settings.
        NonFiniteError: a loss, gradient or parameter was not finite; a bundle is written.
        InterruptedRunError: Ctrl-C or SIGTERM; a checkpoint is written.
        StorageError: the disk is full; the last checkpoint is untouched.
    """
    where = torch.device(device)
    _check_n(learner, fit_set, settings)
    steps_per_epoch = batches_per_epoch(
        len(fit_set), batch_size=settings.batch_size, drop_last=settings.drop_last
    )
    learner.module.to(where)
    about = about_run(stage=stage, seed=seed, settings=settings, train_set_size=len(fit_set))
    saved = load_checkpoint(Path(folder), about=about, device=where)
    if saved is not None:
        learner.load_state(saved["learner"])  # shapes first: the optimiser is built on them
    run = Run(learner, settings, Schedule(settings, max(1, steps_per_epoch)), where)
    on_device = fit_set.to(where)
    open_batches = partial(
        _open_batches, run, on_device, seed=seed, preprocess=preprocess, augment=augment
    )
    check = partial(evaluate, preprocess=preprocess, device=where, metrics=metrics)
    with ExitStack() as session:
        session.enter_context(seeded(seed, where))
        if saved is not None:
            run.restore(saved)
        signals = session.enter_context(StopSignals())
        stage_loop = _Stage(
            run=run,
            folder=Path(folder),
            about=about,
            open_batches=open_batches,
            control=None if control_set is None else partial(check, data=control_set.to(where)),
            progress=ProgressLine() if progress == "auto" else progress,
            stop=stop or (lambda: False),
            signals=signals,
        )
        completed = stage_loop.train(session)
    return FitResult(
        stage=stage,
        completed=completed,
        epochs=run.place.epoch,
        steps=run.place.step,
        resumed=saved is not None,
        history=tuple(read_metrics(Path(folder) / "metrics.jsonl", stage=stage)),
    )


def _check_n(learner: Learner, fit_set: TensorSet, settings: TrainSettings) -> None:
    if len(fit_set) == 0:
        raise ConfigError("fit: the data set is empty")
    claimed = getattr(learner, "num_train_examples", None)
    if claimed is not None:
        check_num_train_examples(
            claimed, train_set_size=len(fit_set), batch_size=settings.batch_size
        )


def _open_batches(
    run: Run,
    fit_set: TensorSet,
    *,
    seed: int,
    preprocess: Preprocessing | None,
    augment: Augment | None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The rest of the current epoch's batches."""
    return batches(
        fit_set,
        batch_size=run.settings.batch_size,
        seed=seed,
        epoch=run.place.epoch,
        preprocess=preprocess,
        augment=augment,
        device=run.device,
        drop_last=run.settings.drop_last,
        first_batch=run.place.batch,
    )


@dataclass
class _Stage:
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
        drop_after(self.metrics, stage=self.stage, epoch=run.place.epoch)
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
        if not self.run.settings.tensorboard:
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
        if self.signals.requested or (more and self.stop()):
            self._checkpoint()
            self._raise_if_interrupted()
            return False
        if not more or place.epoch % run.settings.checkpoint_every_epochs == 0:
            self._checkpoint()
        return True

    def _leave(self) -> bool:
        """Within an epoch: write a checkpoint if it is time to, or if the run shall end here."""
        every = self.run.settings.checkpoint_every_seconds
        stopping = self.signals.requested is not None or self.stop()
        if stopping or (every is not None and time.monotonic() - self.saved_at >= every):
            self.guard.look()
            self._count_time()
            self._checkpoint()
            self._raise_if_interrupted()
        return stopping

    def _raise_if_interrupted(self) -> None:
        if self.signals.requested:
            place = self.run.place
            raise InterruptedRunError(
                f"stage {self.stage!r} was stopped by {self.signals.requested} after step "
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
        append_metrics(self.metrics, record)
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
        module = self.run.learner.module
        figures = self.control(module).figures()
        module.train()
        return {k: float(v) for k, v in figures.items() if k not in ("n", "error_percent")}
