"""The loop: one stage of training, for plain and Bayesian networks and for fine-tuning alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from epigram.data import Augmentation, TensorSet, batches, batches_per_epoch
from epigram.errors import ConfigError
from epigram.evaluate import Metric, evaluate
from epigram.objective import check_num_train_examples
from epigram.train.checkpoint import about_run, load_checkpoint, state_of
from epigram.train.learner import Learner
from epigram.train.metrics import read_metrics
from epigram.train.progress import Progress, ProgressLine
from epigram.train.run import Run
from epigram.train.schedule import Schedule
from epigram.train.settings import TrainSettings
from epigram.train.signals import StopSignals
from epigram.train.stage import Stage, Stop
from epigram.train.state import seeded
from epigram.train.team import Team

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
    augment: Augmentation | None = None,
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
    where, team = torch.device(device), Team()
    _check_n(learner, fit_set, settings)
    _check_last_batch(learner, fit_set, settings, team)
    steps_per_epoch = batches_per_epoch(
        len(fit_set), batch_size=settings.batch_size, drop_last=settings.drop_last
    )
    learner.module.to(where)
    about = about_run(
        stage=stage,
        seed=seed,
        settings=settings,
        train_set_size=len(fit_set),
        processes=team.size,
    )
    saved = team.led(lambda: load_checkpoint(Path(folder), about=about, device=where))
    if saved is not None:
        saved = state_of(saved, team.rank)
        learner.load_state(saved["learner"])  # shapes first: the optimiser is built on them
    else:
        team.copy_from_leader_(learner.module)
    run = Run(learner, settings, Schedule(settings, max(1, steps_per_epoch)), where, team)
    on_device = fit_set.to(where)
    open_batches = partial(
        _open_batches, run, on_device, seed=seed, preprocess=preprocess, augment=augment
    )
    check = partial(evaluate, preprocess=preprocess, device=where, metrics=metrics)
    with ExitStack() as session:
        session.enter_context(seeded(team.seed(seed), where))
        if saved is not None:
            run.restore(saved)
        signals = session.enter_context(StopSignals())
        stage_loop = Stage(
            run=run,
            folder=Path(folder),
            about=about,
            open_batches=open_batches,
            control=None if control_set is None else partial(check, data=control_set.to(where)),
            progress=_shown(progress) if team.leads else None,
            stop=stop or (lambda: False),
            signals=signals,
        )
        completed = stage_loop.train(session)
    if settings.channels_last:
        learner.module.to(memory_format=torch.contiguous_format)
    metrics_file = Path(folder) / "metrics.jsonl"
    return FitResult(
        stage=stage,
        completed=completed,
        epochs=run.place.epoch,
        steps=run.place.step,
        resumed=saved is not None,
        history=tuple(team.led(lambda: read_metrics(metrics_file, stage=stage))),
    )


def _shown(progress: Progress | Literal["auto"] | None) -> Progress | None:
    return ProgressLine() if progress == "auto" else progress


_BATCH_NORM = (
    torch.nn.BatchNorm1d,
    torch.nn.BatchNorm2d,
    torch.nn.BatchNorm3d,
    torch.nn.SyncBatchNorm,
)


def _check_last_batch(
    learner: Learner, fit_set: TensorSet, settings: TrainSettings, team: Team
) -> None:
    """Batch normalisation cannot be trained on a batch of one, and nothing on a batch of none."""
    last = len(fit_set) % settings.batch_size
    last = settings.batch_size if settings.drop_last or not last else last
    normalised = any(isinstance(module, _BATCH_NORM) for module in learner.module.modules())
    needed = 2 if normalised and settings.batch_size > 1 else 1
    if team.smallest_share(last) < needed:
        shared = f" for {team.size} processes" if team.size > 1 else ""
        raise ConfigError(
            f"fit: {len(fit_set)} examples in batches of {settings.batch_size} leave a last batch of "
            f"{'one' if last == 1 else last}{shared}, which "
            f"{'batch normalisation' if normalised else 'one of them'} cannot be trained on; expected "
            "another batch_size, or drop_last"
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
    augment: Augmentation | None,
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
