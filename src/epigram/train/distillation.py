"""Learning from a teacher's answers beside the labels, on mixtures of inputs if asked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from epigram.errors import ConfigError
from epigram.train.learner import LossFn, count_correct, widened


class Likelihood(NamedTuple):
    """What one batch's answers are worth, scalars on the device.

    Attributes:
        loss: what is differentiated, nats per example.
        nll: by the labels alone, detached.
        correct: how many examples are classified rightly; None where that has no meaning.
    """

    loss: Tensor
    nll: Tensor
    correct: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """Mix the labels' loss with the divergence from a teacher.

        loss = (1 - share) · NLL + share · T² · KL(softmax(teacher/T) ‖ softmax(student/T))

    Attributes:
        teacher: answers with class scores; it is used in eval mode and never trained.
        share: the teacher's part, from 0 to 1.
        temperature: T, what softens both distributions.
        mixup: α. Each batch is mixed with itself in another order, λ : 1 - λ, λ from Beta(α, α), and the teacher is
            asked about the mixtures: it tells more than it has told of the inputs both know by heart. 0 = not at all.

    Raises:
        ConfigError: a number is out of range.

    References:
        Hinton, Vinyals, Dean 2015, §2. Mixtures: Zhang, Cissé, Dauphin, Lopez-Paz 2018; with a teacher: Beyer et al.
        2022, "Knowledge distillation: a good teacher is patient and consistent".
    """

    teacher: nn.Module
    share: float = 0.5
    temperature: float = 2.0
    mixup: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise ConfigError(f"Distillation.share: got {self.share!r}, expected 0 to 1")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ConfigError(
                f"Distillation.temperature: got {self.temperature!r}, expected a number > 0"
            )
        if not 0.0 <= self.mixup < math.inf:
            raise ConfigError(f"Distillation.mixup: got {self.mixup!r}, expected a number >= 0")

    def mix(
        self, nll: Float[Tensor, ""], scores: Float[Tensor, "batch classes"], x: Tensor
    ) -> Float[Tensor, ""]:
        """The mixed loss of one batch, nats per example."""
        self.teacher.eval()
        with torch.no_grad():
            taught = self.teacher(x).float() / self.temperature
        divergence = F.kl_div(
            F.log_softmax(scores / self.temperature, dim=1),
            F.log_softmax(taught, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        return (1.0 - self.share) * nll + self.share * self.temperature**2 * divergence

    def mixed(self, x: Any, y: Tensor) -> tuple[Any, Tensor, float]:
        """The batch mixed with itself, the labels of what is mixed in, and the first ones' part: the larger one.

        Raises:
            ConfigError: the inputs are no numbers that can be mixed.
        """
        if not self.mixup:
            return x, y, 1.0
        if not (isinstance(x, Tensor) and x.is_floating_point()):
            got = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise ConfigError(
                f"Distillation.mixup: got inputs of {got}, expected one tensor of floating-point numbers; set mixup to 0"
            )
        drawn = float(torch.distributions.Beta(self.mixup, self.mixup).sample())
        part = max(drawn, 1.0 - drawn)
        return x.lerp(x.roll(1, 0), 1.0 - part), y.roll(1, 0), part


def likelihood(
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    loss_fn: LossFn,
    distillation: Distillation | None = None,
) -> Likelihood:
    """Ask a network, and its teacher if there is one, about a batch."""
    if distillation is None:
        outputs = widened(module(x))
        nll = loss_fn(outputs, y)
        return Likelihood(nll, nll.detach(), count_correct(outputs, y))
    x, others, part = distillation.mixed(x, y)
    outputs = widened(module(x.clone()))  # forward may change its input in place
    nll = loss_fn(outputs, y)
    if part < 1.0:
        nll = part * nll + (1.0 - part) * loss_fn(outputs, others)
    loss = distillation.mix(nll, outputs, x)
    return Likelihood(loss, nll.detach(), count_correct(outputs, y))
