"""How a network becomes symbols."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from epigram.errors import ConfigError
from epigram.priors.symbols import PriorFamily

RateOf: TypeAlias = Literal["noisy", "rounded", "matched"]


@dataclass(frozen=True)
class CodingSettings:
    """Steps, the prior over symbols, and what the rate is taken of.

    Args:
        steps_per_std: how many steps a weight tensor's root mean square has at the start.
        learned_steps: are steps trained?
        prior: ``"mixture"`` of two Laplace distributions, ``"spike"`` (one of the two is all but a
            point at zero), or one ``"laplace"``.
        axes: axes of weights whose indices have a factor of their own in the prior (0 = outputs, 1 =
            inputs). The adaptive code has no such factors to send; nothing is written for them.
        rate_of: the rate in training is that of ``"noisy"`` symbols, or of ``"rounded"`` ones with a
            straight-through gradient. ``"matched"``: values and steps learn from noisy symbols, the
            prior from the rounded ones, which are what is coded; noise would widen it.

        average: how much of the average of values and steps one step leaves, 0 to less than 1. The
            file is that of the averages, and so is what is evaluated; 0 = the last ones. Rounding and a large step
            size make the last ones worse than they will be, and a floor is steered by what they are.

    Raises:
        ConfigError: a value is out of range.
    """

    steps_per_std: float = 4.0
    learned_steps: bool = True
    prior: PriorFamily = "mixture"
    axes: tuple[int, ...] = ()
    rate_of: RateOf = "noisy"
    average: float = 0.998

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", tuple(self.axes))
        if not 0.0 < self.steps_per_std < 1e6:
            raise ConfigError(
                f"CodingSettings.steps_per_std: got {self.steps_per_std}, expected a number > 0"
            )
        for name, allowed in (("prior", get_args(PriorFamily)), ("rate_of", get_args(RateOf))):
            if getattr(self, name) not in allowed:
                raise ConfigError(
                    f"CodingSettings.{name}: got {getattr(self, name)!r}, expected one of "
                    f"{', '.join(allowed)}"
                )
        if not 0.0 <= self.average < 1.0:
            raise ConfigError(
                f"CodingSettings.average: got {self.average}, expected 0 to less than 1"
            )
        if any(axis not in (0, 1) for axis in self.axes):
            raise ConfigError(f"CodingSettings.axes: got {self.axes}, expected 0, 1, or both")
