"""The three stages that train: the plain network, the twin, the small network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import nn

from epigram import atomic, codec
from epigram.convert import Twin, bayesianize
from epigram.errors import RunFolderError
from epigram.pipeline.files import tensors_of
from epigram.pipeline.frames import pictured, write_frame
from epigram.pipeline.job import PLAIN, Job
from epigram.pipeline.reuse import copy_curves
from epigram.pipeline.steering import Controller
from epigram.pipeline.teaching import distilled
from epigram.prune import Removabilities, Shrinker
from epigram.quantize import quantise
from epigram.records import BoolArray, FileContents
from epigram.structure import (
    followed_numbers,
    load_tensors_,
    resize_to_shapes_,
    state_tensors,
)
from epigram.train import (
    BayesianLearner,
    EpochEnd,
    PlainLearner,
    slice_optimizer_state_,
)

TRIAL_PRICE = 1.0


def plain_stage(job: Job, *, from_folder: Path | None = None) -> nn.Module:
    """The plain network: trained here, or taken from another run with its curves.

    Raises:
        RunFolderError: ``from_folder`` holds no plain network.
    """
    model = job.build()
    if from_folder is not None:
        return _taken_over(job, from_folder)
    if job.settings.plain.epochs > 0:
        shapes = pictured(model)

        def picture(end: EpochEnd) -> None:
            write_frame(job.folder, "plain", end.epoch, model, shapes)

        learner = PlainLearner(model, loss_fn=job.recipe.loss_fn, on_epoch=picture)
        job.fit(learner, job.settings.plain, "plain")
    tensors = {name: t.contiguous() for name, t in state_tensors(model.cpu()).items()}
    atomic.write_bytes(job.folder / PLAIN, save(tensors))
    return model.eval()


def network_in(folder: Path, job: Job) -> nn.Module:
    """The plain network that another run left.

    Raises:
        RunFolderError: the folder holds none, or that of another recipe.
    """
    source = folder / PLAIN
    if not source.is_file():
        raise RunFolderError(
            f"{folder}: holds no {PLAIN}; expected the folder of a finished `epigram train`"
        )
    model = job.build()
    try:
        load_tensors_(model, load_file(source))
    except RuntimeError as error:
        raise RunFolderError(
            f"{source}: does not fit a {type(model).__name__}, expected the plain network of "
            f"{job.recipe.name}: {str(error).splitlines()[-1].strip()}"
        ) from error
    return model.eval()


def _taken_over(job: Job, folder: Path) -> nn.Module:
    source, model = folder / PLAIN, network_in(folder, job)
    if not (job.folder / PLAIN).exists():
        copy_curves(job.folder, folder, "plain")
        atomic.write_bytes(job.folder / PLAIN, source.read_bytes())
    return model


class StructureLearner(BayesianLearner):
    """A twin that loses units while it is trained; the shrinker's counts are checkpointed too."""

    def __init__(self, twin: Twin, shrinker: Shrinker, job: Job) -> None:
        shapes = pictured(job.build())

        self.controller = job.controller("structure", slack=job.settings.prune.tolerance)

        def on_epoch(end: EpochEnd) -> Mapping[str, Any]:
            for cut in shrinker.step(twin):
                slice_optimizer_state_(end.optimizer, cut.parameter, cut.axis, cut.index)
            write_frame(job.folder, "structure", end.epoch, twin, shapes)
            size_bytes = trial_bytes(twin)
            return {"predicted_bytes": size_bytes, **steer(self, end, size_bytes)}

        super().__init__(twin, len(job.splits.fit), loss_fn=job.recipe.loss_fn, on_epoch=on_epoch)
        self.kl_multiplier = job.first_multiplier("structure")
        self.shrinker = shrinker
        self.job = job

    def state(self) -> dict[str, Any]:
        counts = {name: torch.from_numpy(c) for name, c in self.shrinker.counts.items()}
        seen = {name: torch.from_numpy(v) for name, v in self.shrinker.seen.items()}
        remembered = None if self.controller is None else self.controller.remembered
        return {**super().state(), "counts": counts, "seen": seen, "remembered": remembered}

    def load_state(self, state: Mapping[str, Any]) -> None:
        super().load_state(state)
        if self.controller is not None:
            self.controller.remembered = state["remembered"]
        self.shrinker.counts = {name: c.numpy() for name, c in state["counts"].items()}
        self.shrinker.seen = {name: v.numpy() for name, v in state["seen"].items()}


class Steered(Protocol):
    """A learner whose multiplier a controller may move."""

    job: Job
    controller: Controller | None
    kl_multiplier: float


def steer(
    learner: Steered, end: EpochEnd, size_bytes: int, *, cycle_ends: bool | None = None
) -> dict[str, Any]:
    """Move a learner's multiplier at the end of an epoch; returns what is logged."""
    metric = learner.job.metric_in(end.control)
    if metric is None or learner.controller is None:
        return {}
    told = {
        "multiplier": learner.kl_multiplier,
        "constraint": learner.controller.constraint.push(metric, size_bytes),
    }
    learner.kl_multiplier = learner.controller.next(
        learner.kl_multiplier,
        metric=metric,
        size_bytes=size_bytes,
        done=end.epoch / end.epochs,
        cycle_ends=cycle_ends,
    )
    return told


def structure_stage(job: Job, plain: nn.Module) -> tuple[Twin, Removabilities]:
    """The twin of the plain network, trained and shrunken; and each dense unit's last removability."""
    twin = bayesianize(plain, job.example, settings=job.settings.posterior)
    shrinker = Shrinker(job.settings.posterior.prior, job.settings.prune)
    job.fit(StructureLearner(twin, shrinker, job), job.settings.structure, "structure")
    shrinker.look(twin)
    return twin.cpu().eval(), shrinker.seen


def trial_bytes(twin: Twin) -> int:
    """What a file of the twin's posterior mean would take now, at one nat a nat; some per cent too much."""
    plain = twin.plain()
    tensors = tensors_of(plain, twin, {n: tuple(t.shape) for n, t in state_tensors(plain).items()})
    coded = quantise(
        tensors,
        price=TRIAL_PRICE,
        representable_step=codec.representable_step,
        sweeps=1,
    )
    return int(np.ceil(codec.size_estimate(FileContents(coded), quick=True).total))


class SmallLearner(PlainLearner):
    """A small network whose dead positions stay dead; its shapes are part of its state."""

    def __init__(self, module: nn.Module, live: Mapping[str, BoolArray], **more: Any) -> None:
        super().__init__(module, **more)
        self._set_live({name: torch.from_numpy(mask) for name, mask in live.items()})

    @torch.no_grad()
    def after_step(self, *, clamp: bool) -> None:
        """Columns of dead positions are put back to zero."""
        del clamp
        for name, mask in self.masks.items():
            weight = self.module.get_parameter(name)
            weight.mul_(mask.to(weight.device).view(-1, *[1] * (weight.dim() - 2)))

    def state(self) -> dict[str, Any]:
        shapes = {name: list(t.shape) for name, t in self.module.named_parameters()}
        return {"shapes": shapes, "numbers": followed_numbers(self.module), "live": self.live}

    def load_state(self, state: Mapping[str, Any]) -> None:
        shapes = {name: tuple(shape) for name, shape in state["shapes"].items()}
        resize_to_shapes_(self.module, shapes, state.get("numbers"))
        self._set_live(state["live"])

    def _set_live(self, live: Mapping[str, torch.Tensor]) -> None:
        self.live = dict(live)
        self.masks = {name: mask.to(torch.float32) for name, mask in live.items()}


def finetune_stage(job: Job, small: nn.Module, twin: Twin, teacher: nn.Module) -> nn.Module:
    """The small network after a short training of its own."""
    if job.settings.finetune.epochs == 0:
        return small.eval()
    shapes = pictured(job.build())

    def picture(end: EpochEnd) -> None:
        write_frame(job.folder, "finetune", end.epoch, twin, shapes, values=small)

    learner = SmallLearner(
        small,
        twin.live_positions(),
        loss_fn=job.recipe.loss_fn,
        distillation=distilled(job, teacher, "finetune"),
        on_epoch=picture,
    )
    job.fit(learner, job.settings.finetune, "finetune")
    return small.cpu().eval()
