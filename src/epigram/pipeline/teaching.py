"""The original network as the teacher of the smaller one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from epigram.data import Augmentation
from epigram.pipeline.job import Job
from epigram.structure.copying import copied
from epigram.train import Distillation, TrainSettings
from epigram.train.known_answers import KnownAnswers, fits

Stage: TypeAlias = Literal["structure", "finetune", "bits"]

_BATCH = 512
_LEAST_VISITS = 2
"""How often each input must come for its answer to be worth keeping."""


def distilled(job: Job, teacher: nn.Module, stage: Stage) -> Distillation | None:
    """The teacher's part in the loss of a stage, if the run's settings give it one."""
    share, settings = job.settings.teacher_share, _settings(job, stage)
    if not share:
        return None
    placed = copied(teacher).to(job.settings.device)
    if settings.channels_last:
        placed = placed.to(memory_format=torch.channels_last)
    augment = job.augment(stage)
    mixup = job.settings.teacher_mixup
    if not mixup and _come_again(job, teacher, augment, settings.epochs):
        placed = KnownAnswers(placed, partial(_all_inputs, job, augment))
    temperature = job.settings.teacher_temperature
    return Distillation(teacher=placed, share=share, temperature=temperature, mixup=mixup)


def _settings(job: Job, stage: Stage) -> TrainSettings:
    settings: TrainSettings = getattr(job.settings, stage)
    return settings


def _come_again(job: Job, teacher: nn.Module, augment: Augmentation | None, epochs: int) -> bool:
    """Are there so few inputs that looking answers up saves time? On the CPU: cards would have to be waited for."""
    variants = 1 if augment is None else len(augment.variants())
    if torch.device(job.settings.device).type != "cpu" or _LEAST_VISITS * variants > epochs:
        return False
    with torch.no_grad():
        answers = copied(teacher).eval()(job.example.clone())
    return answers.dim() == 2 and fits(variants * len(job.splits.fit), answers.shape[1])


def _all_inputs(job: Job, augment: Augmentation | None) -> Iterator[Tensor]:
    """Every input that training can show, in one order."""
    images, preprocess = job.splits.fit.inputs, job.recipe.preprocess
    draws = [None] if augment is None else list(augment.variants())
    job.say(f"the teacher answers {len(draws) * len(images):,} inputs, once")
    for draw in draws:
        for start in range(0, len(images), _BATCH):
            x = images[start : start + _BATCH].clone()
            if augment is not None and draw is not None:
                x = augment.apply(x, draw.expand(len(x), -1))
            yield x if preprocess is None else preprocess(x)
