"""The teacher of a run: what it is asked about, and when its answers are kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.pipeline.tiny_recipe import TinyNet, recipe, settings
from torch import Tensor, nn

from epigram.data import Augment, Preprocess, Warp, batches
from epigram.errors import ConfigError
from epigram.pipeline.job import Job
from epigram.pipeline.teaching import distilled
from epigram.train.known_answers import KnownAnswers


class Counted(TinyNet):
    """Counts the rows it is asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        return super().forward(x)


def _job(folder: Path, *, epochs: int, **more: Any) -> Job:
    made = recipe(augment=Augment(shift=1), preprocess=Preprocess(0.1, 0.3))
    used = settings()
    used = replace(
        used,
        teacher_share=0.9,
        finetune=replace(used.finetune, epochs=epochs),
        bits=replace(used.bits, epochs=epochs),
    )
    return Job(made, replace(used, **more), folder, None, None, None)


def test_every_input_of_training_is_asked_about_once(tmp_path: Path) -> None:
    job, teacher = _job(tmp_path, epochs=18), Counted()
    distillation = distilled(job, teacher, "finetune")
    assert distillation is not None
    known = distillation.teacher
    assert isinstance(known, KnownAnswers)
    data, made = job.splits.fit, job.recipe
    for epoch in range(2):
        stream = batches(
            data,
            batch_size=64,
            seed=0,
            epoch=epoch,
            preprocess=made.preprocess,
            augment=made.augment,
        )
        for x, _ in stream:
            torch.testing.assert_close(known(x), teacher(x))
    assert int(known.teacher.rows) == 9 * len(data)


@pytest.mark.parametrize(
    ("epochs", "augment"), [(17, Augment(shift=1)), (100, Augment(shift=4, flip=True)), (1, None)]
)
def test_with_more_inputs_than_visits_the_teacher_is_asked_each_time(
    tmp_path: Path, epochs: int, augment: Augment | None
) -> None:
    job = _job(tmp_path, epochs=epochs)
    job.recipe = replace(job.recipe, augment=augment)
    distillation = distilled(job, TinyNet(), "bits")
    assert distillation is not None and isinstance(distillation.teacher, TinyNet)


def test_without_a_share_there_is_no_teacher(tmp_path: Path) -> None:
    job = _job(tmp_path, epochs=18, teacher_share=0.0)
    assert distilled(job, nn.Identity(), "bits") is None


def test_a_bits_pass_without_augmentation_has_a_table_of_its_own(tmp_path: Path) -> None:
    job, teacher = _job(tmp_path, epochs=2, bits_augment=False), Counted()
    assert job.augment("bits") is None and job.augment("finetune") == Augment(shift=1)
    distillation = distilled(job, teacher, "bits")
    assert distillation is not None and isinstance(distillation.teacher, KnownAnswers)
    preprocess = job.recipe.preprocess
    assert preprocess is not None
    distillation.teacher(preprocess(job.splits.fit.inputs[:10]))
    assert int(distillation.teacher.teacher.rows) == len(job.splits.fit)


def test_a_bits_pass_may_see_other_inputs_than_the_stages_before(tmp_path: Path) -> None:
    job, teacher = _job(tmp_path, epochs=8), Counted()
    job.recipe = replace(job.recipe, bits_augment=Warp(ways=4))
    assert job.augment("bits") == Warp(ways=4) and job.augment("finetune") == Augment(shift=1)
    distillation = distilled(job, teacher, "bits")
    assert distillation is not None and isinstance(distillation.teacher, KnownAnswers)
    stream = batches(
        job.splits.fit,
        batch_size=16,
        seed=0,
        epoch=3,
        preprocess=job.recipe.preprocess,
        augment=job.augment("bits"),
    )
    x, _ = next(stream)
    distillation.teacher(x)
    assert int(distillation.teacher.teacher.rows) == 4 * len(job.splits.fit)


def test_answers_to_mixtures_are_not_kept(tmp_path: Path) -> None:
    job = _job(tmp_path, epochs=18, teacher_mixup=0.5)
    distillation = distilled(job, Counted(), "finetune")
    assert distillation is not None
    assert distillation.mixup == 0.5
    assert not isinstance(distillation.teacher, KnownAnswers)


def test_a_mixture_out_of_range() -> None:
    with pytest.raises(ConfigError, match=r"teacher_mixup: got -1.0, expected a number >= 0"):
        replace(settings(), teacher_mixup=-1.0)
