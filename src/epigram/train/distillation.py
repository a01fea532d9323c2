"""Learning from a teacher's answers beside the labels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from epigram.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """Mix the labels' loss with the divergence from a teacher.

        loss = (1 - share) · NLL + share · T² · KL(softmax(teacher/T) ‖ softmax(student/T))

    Attributes:
        teacher: answers with class scores; it is used in eval mode and never trained.
        share: the teacher's part, from 0 to 1.
        temperature: T, what softens both distributions.

    Raises:
        ConfigError: the share or the temperature is out of range.

    References:
        Hinton, Vinyals, Dean 2015, §2.
    """

    teacher: nn.Module
    share: float = 0.5
    temperature: float = 2.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise ConfigError(f"Distillation.share: got {self.share!r}, expected 0 to 1")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ConfigError(
                f"Distillation.temperature: got {self.temperature!r}, expected a number > 0"
            )

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
