"""How a network is made Bayesian."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch

from epigram.errors import ConfigError
from epigram.layers.base import Noise
from epigram.priors import GroupHorseshoe, GroupJeffreys, GroupScale, UnitScale

PriorName: TypeAlias = Literal["group-jeffreys", "group-horseshoe", "unit"]


@dataclass(frozen=True)
class PosteriorSettings:
    """The prior over group scales, where the posterior starts, and its bounds.

    Args:
        prior: which prior the scales have; ``unit`` fixes them at 1 (no group sparsity).
        positions: give readers of pixels and of flattened maps a scale per position too.
        logvar_init: initial log-variance of weights and biases.
        logvar_min: lower bound of their log-variances; None = no bound.
        logvar_max: upper bound likewise.
        variance_eps: added to each activation's variance, inside the root.
        convolution_noise: what convolutions draw in training, their outputs, of every example apart, or their weights,
            once a step, which costs half as much. Linear layers draw outputs.
        scale_logvar_init: initial log-variance of the scales (of log α and log β, horseshoe).
        scale_logvar_min: lower bound of the scales' log-variances; None = no bound.
        scale_logvar_max: upper bound likewise.
        tau0: the horseshoe's global hyper-parameter.
        global_init: where the horseshoe's global scale starts; None = ``tau0``.

    Raises:
        ConfigError: an unknown prior or noise, or bounds the wrong way round.
    """

    prior: PriorName = "group-jeffreys"
    positions: bool = True
    logvar_init: float = -8.0
    logvar_min: float | None = -16.0
    logvar_max: float | None = 1.0
    variance_eps: float = 1e-8
    convolution_noise: Noise = "outputs"
    scale_logvar_init: float = -4.0
    scale_logvar_min: float | None = -16.0
    scale_logvar_max: float | None = 2.0
    tau0: float = 1e-5
    global_init: float | None = 1.0

    def __post_init__(self) -> None:
        if self.prior not in get_args(PriorName):
            raise ConfigError(
                f"PosteriorSettings.prior: got {self.prior!r}, expected one of "
                f"{', '.join(get_args(PriorName))}"
            )
        if self.convolution_noise not in get_args(Noise):
            raise ConfigError(
                f"PosteriorSettings.convolution_noise: got {self.convolution_noise!r}, expected one of "
                f"{', '.join(get_args(Noise))}"
            )
        for kind in ("", "scale_"):
            low, start, high = (
                getattr(self, f"{kind}logvar_{end}") for end in ("min", "init", "max")
            )
            low = -math.inf if low is None else low
            high = math.inf if high is None else high
            if not low <= start <= high:
                raise ConfigError(
                    f"PosteriorSettings.{kind}logvar_init: got {start}, "
                    f"expected a number in [{low}, {high}]"
                )

    def make_scale(self, units: int, *, dtype: torch.dtype | None = None) -> GroupScale:
        """A fresh scale for ``units`` units."""
        low, high = self.scale_logvar_min, self.scale_logvar_max
        if self.prior == "group-jeffreys":
            return GroupJeffreys(
                units,
                logvar_init=self.scale_logvar_init,
                logvar_min=low,
                logvar_max=high,
                dtype=dtype,
            )
        if self.prior == "group-horseshoe":
            return GroupHorseshoe(
                units,
                tau0=self.tau0,
                global_init=self.global_init,
                logvar_init=self.scale_logvar_init,
                global_logvar_init=self.scale_logvar_init,
                logvar_min=low,
                logvar_max=high,
                dtype=dtype,
            )
        return UnitScale(units)
