"""A recipe of seconds: noisy 6 x 6 pictures of three patterns, and a small network for them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from epigram import config
from epigram.convert import CodingSettings
from epigram.data import Splits, TensorSet
from epigram.pipeline import LADDER, CompressSettings, Recipe, SteerSettings
from epigram.pipeline.job import job_config
from epigram.quantize import QuantizeSettings
from epigram.train import TrainSettings


class TinyNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(36, 16)
        self.fc2 = nn.Linear(16, 8)
        self.fc3 = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.fc1(torch.flatten(x, 1)))
        return self.fc3(torch.relu(self.fc2(x)))


class TinyConvNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3)
        self.norm = nn.BatchNorm2d(6)
        self.fc1 = nn.Linear(24, 8)
        self.fc2 = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.max_pool2d(torch.relu(self.norm(self.conv(x))), 2)
        return self.fc2(torch.relu(self.fc1(torch.flatten(x, 1))))


def examples(count: int, *, seed: int, name: str) -> TensorSet:
    """Rows, columns or a chequered pattern, under noise; half of the border never has any ink."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (count,), generator=generator)
    y, x = torch.meshgrid(torch.arange(6), torch.arange(6), indexing="ij")
    patterns = torch.stack([y % 2, x % 2, (x + y) % 2]).float()
    images = patterns[labels] + 0.8 * torch.randn(count, 6, 6, generator=generator)
    images[:, 0] = 0.0
    images[:, :, 0] = 0.0
    return TensorSet(images[:, None], labels, name)


def splits() -> Splits:
    return Splits(
        examples(600, seed=1, name="fit"),
        examples(200, seed=2, name="control"),
        examples(200, seed=3, name="validation"),
        examples(300, seed=4, name="test"),
    )


def settings(**more: Any) -> CompressSettings:
    short = TrainSettings(epochs=3, batch_size=50, learning_rate=0.01, tensorboard=False)
    made = CompressSettings(
        plain=short,
        structure=replace(
            short, epochs=6, logvar_lr_factor=10.0, scale_lr_factor=10.0, kl_warmup_epochs=1.0
        ),
        finetune=replace(short, epochs=2),
        bits=LADDER,
        steer=SteerSettings(),
        teacher_share=0.0,
        quantize=QuantizeSettings(coarsest=100.0, finest=0.1, trials=6, order_tries=0),
    )
    return replace(made, **more)


def bits_settings(*, structure_epochs: int = 4, **more: Any) -> CompressSettings:
    """With a bits pass in place of the ladder."""
    made = settings()
    bits = TrainSettings(
        epochs=10,
        batch_size=50,
        learning_rate=0.01,
        scale_lr_factor=4.0,
        kl_warmup_epochs=3.0,
        tensorboard=False,
    )
    made = replace(
        made,
        structure=replace(made.structure, epochs=structure_epochs),
        bits=bits,
        coding=CodingSettings(steps_per_std=2.5),
        teacher_share=0.5,
    )
    return replace(made, **more)


def recipe(**more: Any) -> Recipe:
    made = Recipe(
        name="tiny/patterns",
        description="three patterns",
        build=TinyNet,
        load_data=splits,
        settings=settings(),
        floor="accuracy>=0.8",
    )
    return replace(made, **more)


def identity(**more: Any) -> str:
    """What a run of such a recipe is known by."""
    made = recipe(**more)
    return config.identity(json.loads(json.dumps(job_config(made, made.settings))))
