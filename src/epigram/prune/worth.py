"""What a unit is worth to the likelihood, and where its scale's noise comes to rest for that.

``docs/training.md`` derives both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from epigram.convert import Twin
from epigram.evaluate.modes import evaluating
from epigram.layers import sampling, shared_draws
from epigram.maths.kl import kl_log_uniform


def worth_nats(log_alpha: float) -> float:
    """What a unit is worth whose normal-Jeffreys scale is at rest at ``log_alpha``, nats.

    Worth is what the unit takes off the NLL of the whole training set if its scale has no noise, at KL
    weight 1: ``-KL'(log α) · (1 + α)² / α``, near ½ (1 + 1/α). A unit worth less than ½ nat has no resting
    place: its log alpha grows without end.

    Example:
        >>> [round(worth_nats(cut), 2) for cut in (-4.0, 0.0, 1.0, 3.0)]
        [28.68, 1.44, 0.84, 0.56]
    """
    ratio = torch.tensor(log_alpha, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(kl_log_uniform(ratio), ratio)
    alpha = math.exp(log_alpha)
    return -float(slope) * (1.0 + alpha) ** 2 / alpha


def removability_at_rest(worth: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Where log alpha comes to rest for units of these worths, about: -log(2 · worth - 1).

    The inverse of ``worth_nats`` without its smaller term; infinite for a worth of up to ½ nat.

    Args:
        worth: nats over all training examples, divided by the KL weight.

    Example:
        >>> removability_at_rest(np.array([0.4, 1.0, 28.0])).round(2).tolist()
        [inf, -0.0, -4.01]
    """
    excess = 2.0 * np.asarray(worth, np.float64) - 1.0
    with np.errstate(divide="ignore"):
        return -np.log(np.maximum(excess, 0.0))


def unit_worths(
    twin: Twin,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    loss_fn: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> dict[str, NDArray[np.float64]]:
    """Per scale, what each unit takes off the NLL of an example, nats: ½ E[(z · ∂ℓ/∂z)²].

    The loss of taking a unit away from a trained network, to second order, with the Fisher information
    in place of the second derivative. Scales are drawn per example, so one backward pass gives every
    example's gradient. The twin and its gradients are not changed.

    Args:
        twin: in any mode; measured around its posterior mean.
        batches: preprocessed inputs and targets, on the twin's device.
        loss_fn: (outputs, targets) -> mean NLL per example.

    References:
        Theis et al. 2018, "Faster gaze prediction with dense networks and Fisher pruning", eq. 8.
    """
    scales = {name: twin.scale(name) for name in twin.names if not twin.scale(name).trivial}
    sums = {name: torch.zeros(twin.scale(name).units, dtype=torch.float64) for name in twin.names}
    seen = 0
    with evaluating(twin), sampling(twin):
        for x, y in batches:
            with shared_draws(scales.values(), len(x)):
                draws = []
                for scale in scales.values():
                    mean = scale.mean().detach()
                    draws.append(mean.expand(len(x), -1).clone().requires_grad_())
                    assert scale.shared_draw is not None
                    scale.shared_draw.values = draws[-1]
                with torch.enable_grad():
                    loss = loss_fn(twin.network(x), y) * len(x)
                slopes = torch.autograd.grad(loss, draws, allow_unused=True)
            for name, z, slope in zip(scales, draws, slopes, strict=True):
                if slope is not None:
                    sums[name] += (slope * z).detach().double().square().sum(0).cpu()
            seen += len(x)
    return {name: (0.5 / max(1, seen) * total).numpy() for name, total in sums.items()}
