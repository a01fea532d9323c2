"""One run: what is compressed, where it lies, and what every stage needs of both."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

import epigram
from epigram import config
from epigram.data import Augmentation, Splits, TensorSet, check_fits
from epigram.errors import InterruptedRunError
from epigram.evaluate import Evaluation, evaluate
from epigram.goal import Goal, check_sense
from epigram.pipeline.identity import describe_recipe
from epigram.pipeline.recipe import Recipe
from epigram.pipeline.settings import CompressSettings
from epigram.pipeline.source import code
from epigram.pipeline.steering import Constraint, Controller, HeldBudget, HeldFloor, room_of
from epigram.records import Floor
from epigram.train import FitResult, Learner, Progress, TrainSettings, fit

PLAIN = "plain.safetensors"
"""The plain network, in every run's folder."""

ProgressChoice = Progress | Literal["auto"] | None


@dataclass(eq=False)
class Job:
    """A run in a claimed folder.

    Attributes:
        recipe: network and data.
        settings: of the run.
        folder: where everything goes.
        floor: what must be met; None for a plain training run.
        progress: how to show it.
        stop: asked after each step; True ends the run in order.
        budget: how many bytes the file may take; the floor's metric is then what is made best.
        harder: by how much the plain network's metric is better on control than on validation.
        room: what the floor leaves of what it allows, on control (``room_of``).
        warm: by stage, the weight of the complexity that another run ended with (``steer.warm``).
    """

    recipe: Recipe
    settings: CompressSettings
    folder: Path
    floor: Floor | None
    progress: ProgressChoice
    stop: Callable[[], bool] | None
    budget: int | None = None
    harder: float = 0.0
    room: float = 0.0
    warm: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def splits(self) -> Splits:
        """The data, checked against the network."""
        splits = self.recipe.load_data()
        model = self.build()
        for part in (splits.fit, splits.control, splits.validation, splits.test):
            if part is not None:
                check_fits(model, part, preprocess=self.recipe.preprocess)
        return splits

    def build(self) -> nn.Module:
        """The original network; its random weights depend on the seed and on nothing else."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.settings.seed)  # leaves the cards' alone
            return self.recipe.build()

    @cached_property
    def example(self) -> Tensor:
        """Two preprocessed examples, to trace with."""
        inputs = self.splits.fit.inputs[:2]
        return inputs if self.recipe.preprocess is None else self.recipe.preprocess(inputs)

    def check_floor(self) -> None:
        """Is the floor's metric one that can be measured? Asked before time is spent.

        Raises:
            ConfigError: it is unknown (the message lists those there are), or bounded where it makes no sense.
            DataError: the data are not for a classifier.
        """
        if self.floor is not None:
            few = self.splits.control.subset(slice(0, 2))
            figures = evaluate(self.build(), few, preprocess=self.recipe.preprocess)
            if self.floor.metric not in self.recipe.metrics:
                figures.metric(self.floor.metric)
                check_sense(self.floor)

    def resolve(self, goal: Goal, plain: nn.Module) -> None:
        """Settle the floor and the budget, now that the plain network is known."""
        self.budget = goal.budget
        if goal.is_relative:
            self.floor = goal.floor
            self.floor = goal.resolved(self.measure(self.splits.validation)(plain))

    def compare_splits(self, plain: nn.Module) -> None:
        """Learn from the plain network how much it may lose, and how much harder the images are that judge."""
        if self.floor is not None:
            parts = (self.splits.control, self.splits.validation)
            control, validation = (self.floor.margin(self.measure(p)(plain)) for p in parts)
            self.harder = control - validation if math.isfinite(control - validation) else 0.0
            self.room = room_of(self.floor, control)

    def check_time(self, what: str) -> None:
        """Is there time left for what comes next? Nothing is lost if not.

        Raises:
            InterruptedRunError: the time is up.
        """
        if self.stop is not None and self.stop():
            raise InterruptedRunError(
                f"the time was up before {what!r}; the same command goes on from there"
            )

    def say(self, text: str) -> None:
        """A line for whoever watches."""
        if self.progress == "auto":
            Console(stderr=True).print(text, markup=False, highlight=False)

    def evaluate(self, model: nn.Module, part: TensorSet) -> Evaluation:
        """A network's figures on one split."""
        return evaluate(
            model,
            part,
            preprocess=self.recipe.preprocess,
            metrics=self.recipe.metrics or None,
        )

    def measure(self, part: TensorSet) -> Callable[[nn.Module], float]:
        """The floor's metric on one split, as a function of the network."""
        floor = self.floor
        assert floor is not None
        return lambda model: self.evaluate(model, part).metric(floor.metric)

    def metric_in(self, figures: Mapping[str, float]) -> float | None:
        """The floor's metric among an epoch's figures; None where it was not measured."""
        if self.floor is None:
            return None
        if self.floor.metric == "error" and "error" not in figures and "accuracy" in figures:
            return 1.0 - figures["accuracy"]
        return figures.get(self.floor.metric)

    def controller(
        self, stage: Literal["structure", "bits"], *, slack: float = 0.0
    ) -> Controller | None:
        """What moves the multiplier of a stage, steered by the control split; None = nothing does."""
        if self.floor is None or not self.steers(stage):
            return None
        return Controller(self.settings.steer, self.constraint(self.splits.control, slack=slack))

    def first_multiplier(self, stage: Literal["structure", "bits"]) -> float:
        """What the weight of the complexity is multiplied with until the controller moves it."""
        settings: TrainSettings = getattr(self.settings, stage)
        steer = self.settings.steer
        first = 1.0
        if not self.steers(stage):
            return first
        if stage in self.warm and settings.cycles == 1 and settings.kl_weight:
            first = self.warm[stage] / settings.kl_weight
        else:
            first = math.exp(steer.anticipate * self.room)
        return min(max(first, steer.least), steer.most)

    def steers(self, stage: Literal["structure", "bits"]) -> bool:
        """Is the multiplier of this stage moved?

        A budget steers the bits pass only: the structure pass does not know yet what a weight costs.
        """
        steer = self.settings.steer
        return steer.bits if stage == "bits" else steer.structure and self.budget is None

    def constraint(self, part: TensorSet, *, slack: float = 0.0) -> Constraint:
        """What the controller of a stage holds, measured on ``part``, so that validation holds the floor."""
        assert self.floor is not None
        if self.budget is not None:
            return HeldBudget(self.budget)
        steer = self.settings.steer
        slack -= steer.harder * self.harder
        return HeldFloor(self.floor, len(part), ahead=steer.ahead, slack=slack)

    def augment(self, stage: str) -> Augmentation | None:
        """What a stage's inputs are augmented with."""
        if stage != "bits":
            return self.recipe.augment
        return (
            (self.recipe.bits_augment or self.recipe.augment)
            if self.settings.bits_augment
            else None
        )

    def fit(self, learner: Learner, settings: TrainSettings, stage: str) -> FitResult:
        """Train a stage, or go on with it.

        Raises:
            InterruptedRunError: the time was up; the same command goes on.
        """
        result = fit(
            learner,
            self.splits.fit,
            settings,
            folder=self.folder,
            stage=stage,
            seed=self.settings.seed,
            control_set=self.splits.control,
            preprocess=self.recipe.preprocess,
            augment=self.augment(stage),
            device=self.settings.device,
            progress=self.progress,
            stop=self.stop,
            metrics=self.recipe.metrics or None,
        )
        if not result.completed:
            raise InterruptedRunError(
                f"stage {stage!r} was ended in order after {result.epochs} of "
                f"{settings.epochs} epochs; the same command goes on from there"
            )
        return result


def job_config(recipe: Recipe, settings: CompressSettings, **more: Any) -> dict[str, Any]:
    """The complete configuration that makes a run's identity; bookkeeping is no part of it.

    Raises:
        ConfigError: something the recipe carries looks different in every process.
    """
    return {
        "recipe": recipe.name,
        "settings": config.split_bookkeeping(settings)[0],
        **describe_recipe(recipe),
        "epigram_version": epigram.__version__,
        "code": code(),
        **more,
    }


def environment() -> Mapping[str, str | int]:
    """Versions and machine, for the record."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
    }
