"""How a network is made Bayesian."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch

from epigram.errors import ConfigError
from epigram.layers.base import Noise
from epigram.layers.parameters import Variances
from epigram.priors import GroupHorseshoe, GroupJeffreys, GroupScale, UnitScale
from epigram.structure import OnFailure

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
        variances: each weight has a variance of its own, or those of a layer are tied, one factor for each output and
            one for each input (and place in a filter), which saves the second product of a step. Embeddings, depthwise
            convolutions and layers with one output keep one for each weight.
        convolution_noise: what convolutions draw in training, their outputs, of every example apart, or their weights,
            once a step, which costs half as much. Linear layers draw outputs.
        scale_logvar_init: initial log-variance of the scales (of log α and log β, horseshoe).
        scale_logvar_min: lower bound of the scales' log-variances; None = no bound.
        scale_logvar_max: upper bound likewise.
        tau0: the horseshoe's global hyper-parameter.
        global_init: where the horseshoe's global scale starts; None = ``tau0``.
        on_failure: of a network whose structure cannot be found, since it cannot be exported: an error, or a twin
            that keeps every unit.

    Raises:
        ConfigError: an unknown prior, noise, kind of variances or way on, or bounds the wrong way round.
    """

    prior: PriorName = "group-jeffreys"
    positions: bool = True
    logvar_init: float = -8.0
    logvar_min: float | None = -16.0
    logvar_max: float | None = 1.0
    variance_eps: float = 1e-8
    variances: Variances = "each"
    convolution_noise: Noise = "outputs"
    scale_logvar_init: float = -4.0
    scale_logvar_min: float | None = -16.0
    scale_logvar_max: float | None = 2.0
    tau0: float = 1e-5
    global_init: float | None = 1.0
    on_failure: OnFailure = "raise"

    def __post_init__(self) -> None:
        choices = {
            "prior": PriorName,
            "variances": Variances,
            "convolution_noise": Noise,
            "on_failure": OnFailure,
        }
        for name, kind in choices.items():
            if getattr(self, name) not in get_args(kind):
                raise ConfigError(
                    f"PosteriorSettings.{name}: got {getattr(self, name)!r}, expected one of "
                    f"{', '.join(get_args(kind))}"
                )
        for whose in ("", "scale_"):
            low, start, high = (
                getattr(self, f"{whose}logvar_{end}") for end in ("min", "init", "max")
            )
            low = -math.inf if low is None else low
            high = math.inf if high is None else high
            if not low <= start <= high:
                raise ConfigError(
                    f"PosteriorSettings.{whose}logvar_init: got {start}, "
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
