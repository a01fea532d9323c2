"""How a network becomes symbols."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from epigram.errors import ConfigError
from epigram.priors.symbols import PriorFamily

FREEZE_FIRST, FREEZE_LAST = 0.1, 0.005
FLIP_MEMORY = 0.01
"""How much of a symbol's rate of change one step replaces."""

RateOf: TypeAlias = Literal["noisy", "rounded", "matched"]
Kernels: TypeAlias = Literal["pixels", "cosine"]


@dataclass(frozen=True)
class CodingSettings:
    """Steps, the prior over symbols, and what the rate is taken of.

    Args:
        steps_per_std: how many steps a weight tensor's root mean square has at the start: so many that a compact network
            keeps its accuracy, so few that the pass can still widen them where they cost more than they are worth.
        learned_steps: are steps trained?
        prior: ``"mixture"`` of two Laplace distributions, ``"spike"`` (one of the two is all but a
            point at zero), or one ``"laplace"``.
        axes: axes of weights whose indices have a factor of their own in the prior (0 = outputs, 1 =
            inputs). The adaptive code has no such factors to send; nothing is written for them.
        rate_of: the rate in training is that of ``"noisy"`` symbols, or of ``"rounded"`` ones with a
            straight-through gradient. ``"matched"``: values and steps learn from noisy symbols, the
            prior from the rounded ones, which are what is coded; noise would widen it.

        average: how much of the average of values and steps one step leaves, 0 to less than 1. The
            file is that of the averages, and so is what is evaluated; 0 = the last ones.
        kernels: what the symbols of a two-dimensional convolution say: ``"pixels"``, its weights, or ``"cosine"``,
            the coefficients of each kernel's cosine transform. Kernels are smooth, so fewer of them are needed; the
            prior then has a factor for each frequency along both axes.
        freeze_from: share of the epochs after which symbols that go back and forth are frozen at their
            mean, the liveliest first, in the end all that still change; 1 = none. Values near the border of two
            bins never settle under a straight-through gradient, and each change is noise to all others.

    Raises:
        ConfigError: a value is out of range.

    References:
        Wang et al. 2016, "CNNpack: Packing Convolutional Neural Networks in the Frequency Domain".
        Nagel et al. 2022, "Overcoming Oscillations in Quantization-Aware Training", §4.3.
    """

    steps_per_std: float = 4.0
    learned_steps: bool = True
    prior: PriorFamily = "mixture"
    axes: tuple[int, ...] = ()
    rate_of: RateOf = "noisy"
    average: float = 0.99
    freeze_from: float = 0.5
    kernels: Kernels = "pixels"

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", tuple(self.axes))
        if not 0.0 < self.steps_per_std < 1e6:
            raise ConfigError(
                f"CodingSettings.steps_per_std: got {self.steps_per_std}, expected a number > 0"
            )
        for name, allowed in (
            ("prior", get_args(PriorFamily)),
            ("rate_of", get_args(RateOf)),
            ("kernels", get_args(Kernels)),
        ):
            if getattr(self, name) not in allowed:
                raise ConfigError(
                    f"CodingSettings.{name}: got {getattr(self, name)!r}, expected one of "
                    f"{', '.join(allowed)}"
                )
        if not 0.0 <= self.average < 1.0:
            raise ConfigError(
                f"CodingSettings.average: got {self.average}, expected 0 to less than 1"
            )
        if not 0.0 <= self.freeze_from <= 1.0:
            raise ConfigError(
                f"CodingSettings.freeze_from: got {self.freeze_from}, expected 0 to 1"
            )
        if any(axis not in (0, 1) for axis in self.axes):
            raise ConfigError(f"CodingSettings.axes: got {self.axes}, expected 0, 1, or both")

    def freezing_rate(self, done: float) -> float:
        """How often per step a symbol may change before it is frozen, with this share of the epochs done.

        It falls from one change in ten steps to less than one in the memory of a hundred.
        """
        if done < self.freeze_from or self.freeze_from == 1.0:
            return math.inf
        fraction = min(1.0, (done - self.freeze_from) / (0.95 * (1.0 - self.freeze_from)))
        return float(FREEZE_FIRST * (FREEZE_LAST / FREEZE_FIRST) ** fraction)
