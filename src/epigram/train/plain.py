"""Plain networks: the baseline, the teacher, and the fine-tuning of a small network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from epigram.train.distillation import Distillation, likelihood
from epigram.train.learner import EpochCallback, EpochEnd, LossFn, StepLoss
from epigram.train.optimizers import ParameterGroup


class PlainLearner:
    """A network trained by its likelihood alone, and by a teacher if there is one.

    Args:
        module: the network.
        loss_fn: (outputs, targets) -> mean NLL per example.
        distillation: a teacher and its share in the loss.
        on_epoch: called after every epoch; what it returns is logged.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        loss_fn: LossFn = F.cross_entropy,
        distillation: Distillation | None = None,
        on_epoch: EpochCallback | None = None,
    ) -> None:
        self.module = module
        self.loss_fn = loss_fn
        self.distillation = distillation
        self.on_epoch = on_epoch

    def parameter_groups(self) -> list[ParameterGroup]:
        trained = [p for p in self.module.parameters() if p.requires_grad]
        return [{"params": trained, "role": "mean"}]

    def loss(self, x: Tensor, y: Tensor, *, kl_weight: float) -> StepLoss:
        del kl_weight
        asked = likelihood(self.module, x, y, loss_fn=self.loss_fn, distillation=self.distillation)
        return StepLoss(asked.loss, asked.nll, None, asked.correct)

    def after_step(self, *, clamp: bool) -> None:
        """Nothing to bound."""

    def end_of_epoch(self, end: EpochEnd) -> Mapping[str, Any]:
        return (self.on_epoch(end) if self.on_epoch else None) or {}

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """A plain network has no state beside its tensors."""
