"""What the loop needs to know of whatever it trains; plain and Bayesian networks both fit it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor, nn

from epigram.train.optimizers import ParameterGroup

LossFn: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(outputs, targets) -> mean negative log-likelihood per example."""


class StepLoss(NamedTuple):
    """One batch's loss and its parts, all of them scalars on the device.

    Attributes:
        loss: what is differentiated, per example.
        nll: mean negative log-likelihood per example, nats.
        kl_nats: the KL, a sum in nats; None for a plain network.
        correct: how many examples are classified rightly; None where that has no meaning.
        kl_weight: what the KL was weighted with, all factors included.
    """

    loss: Tensor
    nll: Tensor
    kl_nats: Tensor | None = None
    correct: Tensor | None = None
    kl_weight: float = 0.0


@dataclass(frozen=True)
class EpochEnd:
    """What is known when an epoch is over, before the learner may shrink.

    Attributes:
        stage: the stage's name.
        epoch: the epoch just finished, counted from 1.
        epochs: how many there will be.
        step: optimiser steps done in this stage.
        train: averages over the epoch: loss, nll, kl_nats, kl_weight, accuracy.
        control: the control split's metrics; empty where it was not evaluated.
        optimizer: to be cut together with the parameters (``slice_optimizer_state_``).
    """

    stage: str
    epoch: int
    epochs: int
    step: int
    train: Mapping[str, float]
    control: Mapping[str, float]
    optimizer: torch.optim.Optimizer = field(repr=False)


EpochCallback: TypeAlias = Callable[[EpochEnd], Mapping[str, Any] | None]
"""Called after every epoch; what it returns is added to the epoch's line of metrics."""


@runtime_checkable
class Learner(Protocol):
    """A network with a loss. ``PlainLearner`` and ``BayesianLearner`` are the two of ours."""

    @property
    def module(self) -> nn.Module:
        """All that is trained: its state_dict goes into the checkpoint; ``module(x)`` predicts."""
        ...

    def parameter_groups(self) -> list[ParameterGroup]:
        """The parameters by role (``mean``, ``logvar``, ``scale``)."""
        ...

    def loss(self, x: Tensor, y: Tensor, *, kl_weight: float) -> StepLoss:
        """The loss of one batch; may run under autocast, must not wait for the device."""
        ...

    def after_step(self, *, clamp: bool) -> None:
        """Called after every optimiser step: bounds are enforced here if ``clamp``."""
        ...

    def end_of_epoch(self, end: EpochEnd) -> Mapping[str, Any]:
        """Called after every epoch; may shrink the module in place. Returns metrics to log."""
        ...

    def state(self) -> dict[str, Any]:
        """What the state_dict does not say, as tensors, numbers, strings, lists and dicts."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of ``state``; rebuilds shapes, since it runs before tensors are loaded."""
        ...


def count_correct(outputs: Tensor, targets: Tensor) -> Tensor | None:
    """How many rows of class scores are right; None where targets are not class numbers."""
    if outputs.dim() != 2 or targets.dim() != 1 or targets.is_floating_point():
        return None
    return (outputs.argmax(dim=1) == targets).sum()


def widened(outputs: Tensor) -> Tensor:
    """Half-precision outputs in fp32, so that the loss is."""
    return outputs.float() if outputs.dtype in (torch.bfloat16, torch.float16) else outputs
