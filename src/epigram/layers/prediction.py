"""Monte-Carlo prediction: an explicit call, never what ``eval()`` does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from epigram.errors import ConfigError, UnsupportedModelError
from epigram.layers.twins import sampling, scales_of, variational_layers
from epigram.priors import shared_draws


@dataclass(frozen=True, eq=False)
class Prediction:
    """What many draws from the posterior say about each example.

    Attributes:
        mean: mean over the draws: class probabilities, or values.
        std: standard deviation over the draws, same shape.
        samples: how many draws.
        entropy_nats: of the mean probabilities, the whole uncertainty; None for values.
        mutual_information_nats: the part of it that more data would remove; None for values.
    """

    mean: Float[Tensor, "batch *out"]
    std: Float[Tensor, "batch *out"]
    samples: int
    entropy_nats: Float[Tensor, "batch *rest"] | None = None
    mutual_information_nats: Float[Tensor, "batch *rest"] | None = None


def predict(
    module: nn.Module,
    x: Float[Tensor, "batch *features"],
    samples: int = 32,
    *,
    output: Literal["logits", "values"] = "logits",
    seed: int | None = None,
) -> Prediction:
    """Average ``samples`` passes with weights and scales drawn from the posterior.

    Dropout and batch normalisation are in ``eval()`` mode meanwhile; modes are restored afterwards.
    Scales are drawn once per pass and shared by their readers. No gradients.

    Args:
        module: a network of variational layers whose examples are on axis 0.
        x: the inputs.
        samples: number of draws, at least 1.
        output: ``"logits"``: class scores on axis 1, averaged as probabilities;
            ``"values"``: averaged as they are.
        seed: makes the draws repeatable and leaves the global generator as it was; None = draw on.

    Raises:
        ConfigError: fewer than one sample.
        UnsupportedModelError: nothing in ``module`` can be sampled.
    """
    if samples < 1:
        raise ConfigError(f"predict: got samples={samples}, expected 1 or more")
    if not variational_layers(module):
        raise UnsupportedModelError(
            f"predict: got a {type(module).__name__} without a variational layer, expected a "
            "variational twin; a plain network has nothing to sample, call it instead"
        )
    with torch.no_grad(), _seeded(seed, x.device), _evaluating(module), sampling(module):
        return _average(module, x, samples, probabilities=output == "logits")


def _average(module: nn.Module, x: Tensor, samples: int, *, probabilities: bool) -> Prediction:
    """Running mean and sum of squared deviations (Welford), so that no draw is kept."""
    scales = scales_of(module)
    mean = deviations = entropies = torch.zeros(())
    for count in range(1, samples + 1):
        with shared_draws(scales, x.shape[0]):
            drawn = module(x)
        if probabilities:
            drawn = torch.softmax(drawn.float() if drawn.dtype.itemsize < 4 else drawn, dim=1)
            entropies = entropies.to(drawn) + _entropy(drawn)
        gap = drawn - mean.to(drawn)
        mean = mean.to(drawn) + gap / count
        deviations = deviations.to(drawn) + gap * (drawn - mean)
    std = (deviations / max(samples - 1, 1)).sqrt()
    if not probabilities:
        return Prediction(mean=mean, std=std, samples=samples)
    entropy = _entropy(mean)
    information = (entropy - entropies / samples).clamp_min(0.0)
    return Prediction(mean, std, samples, entropy, information)


def _entropy(probabilities: Tensor) -> Tensor:
    entropy: Tensor = torch.special.entr(probabilities)
    return entropy.sum(1)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    before = {child: child.training for child in module.modules()}
    try:
        module.eval()
        yield
    finally:
        for child, training in before.items():
            child.training = training


@contextmanager
def _seeded(seed: int | None, device: torch.device) -> Iterator[None]:
    if seed is None:
        with nullcontext():
            yield
        return
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
