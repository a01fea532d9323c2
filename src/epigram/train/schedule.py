"""The one schedule: learning rate and KL weight as pure functions of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from epigram.objective import kl_warmup
from epigram.train.settings import TrainSettings


@dataclass(frozen=True)
class Schedule:
    """What varies over a stage. It has no state: nothing of it needs saving.

    Cycles are the warm restarts of Loshchilov, Hutter 2017 (SGDR, §3), each lower than the one before.

    Attributes:
        settings: the stage's settings.
        steps_per_epoch: optimiser steps in an epoch, at least 1.

    Example:
        >>> plan = Schedule(TrainSettings(epochs=2, learning_rate=0.1, schedule="linear"), 50)
        >>> [round(plan.learning_rate(step), 3) for step in (0, 50, 75)]
        [0.1, 0.05, 0.025]
    """

    settings: TrainSettings
    steps_per_epoch: int

    @property
    def total_steps(self) -> int:
        """Optimiser steps in the stage."""
        return self.settings.epochs * self.steps_per_epoch

    def epoch_progress(self, step: int) -> float:
        """Epochs done before step ``step`` (counted from 0), fractions included."""
        return step / self.steps_per_epoch

    def cycle(self, epochs_done: int) -> tuple[int, float]:
        """Cycles done after so many epochs, and the share of the one that is going on."""
        settings = self.settings
        whole, rest = divmod(epochs_done * settings.cycles, max(1, settings.epochs))
        return whole, rest / max(1, settings.epochs)

    def learning_rate(self, step: int) -> float:
        """The means' step size at step ``step`` (counted from 0)."""
        return self.settings.learning_rate * self._warmup(step) * self._decay(step)

    def kl_weight(self, step: int) -> float:
        """The KL's weight at step ``step``, warm-up included."""
        settings = self.settings
        progress = self.epoch_progress(step)
        return settings.kl_weight * kl_warmup(
            progress, settings.kl_warmup_epochs, settings.kl_warmup_shape
        )

    def _warmup(self, step: int) -> float:
        warmup_steps = self.settings.lr_warmup_epochs * self.steps_per_epoch
        return min(1.0, (step + 1) / warmup_steps) if warmup_steps > 0 else 1.0

    def _decay(self, step: int) -> float:
        settings = self.settings
        done = min(1.0, step / max(1, self.total_steps))
        match settings.schedule:
            case "constant":
                return 1.0
            case "step":
                return float(
                    settings.step_factor ** (step // (settings.step_epochs * self.steps_per_epoch))
                )
            case "cosine" | "linear":
                if settings.cycles == 1 or done == 1.0:
                    return _decayed(settings, done)
                cycle, within = divmod(done * settings.cycles, 1.0)
                return _decayed(settings, cycle / settings.cycles) * _decayed(settings, within)


def _decayed(settings: TrainSettings, done: float) -> float:
    """From 1 down to ``final_factor``."""
    left = 1.0 - done
    if settings.schedule == "cosine":
        left = 0.5 * (1.0 + math.cos(math.pi * done))
    return settings.final_factor + (1.0 - settings.final_factor) * left
