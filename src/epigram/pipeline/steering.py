"""The floor (or a budget) as a constraint while a stage is trained: one multiplier, moved once an epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from epigram.errors import ConfigError
from epigram.objective import steered
from epigram.records import Floor

CYCLE_WIDTH = 1.0
"""How many standard deviations of room make a large move between cycles: LeNet-5's error moves by about one where
the logarithm of the multiplier moves by a half to one."""


@dataclass(frozen=True)
class SteerSettings:
    """How the multiplier of the complexity follows the constraint.

    Args:
        structure: steer the structure pass. Its aim is the floor less ``prune.tolerance``, which
            fine-tuning wins back.
        bits: steer the bits pass.
        warm: begin where the multipliers of the run ended that the plain network is taken from (``--from``): its floor was
            another, but hardly far away. Of a pass in several cycles it is left to the price to begin low.
        rate: the largest move an epoch makes, on the natural-log scale.
        begin: share of the epochs before the multiplier follows the constraint both ways. While the step
            size is large the metric is worse than it will be, and to steer by it would hold the floor too high.
        brake: before that it only falls, and only where the constraint is missed by more than so many
            standard deviations: symbols that have gone to zero hardly come back. A budget, which does not
            suffer from the step size, is followed from half of ``begin`` on.
        anticipate: both passes begin with the weight times e to the power of this times the floor's room (``room_of``):
            units that leave late leave fewer bytes saved, and what has left does not come back, so the first epochs
            should know already how much may be lost.
        cycle_rate: the largest move after a cycle, where the stage has several (``bits.cycles``). Symbols have
            settled by then and the metric is what the file's will be, so a floor is then followed only there, both
            ways, and nothing is remembered. Begin with a price that is too low: a network that is large for it shrinks from
            cycle to cycle, while symbols that have gone to zero hardly come back.
        settle: share of the epochs, at the end, over which the moves become smaller, down to none.
        ahead: how far above the floor is aimed, in standard deviations of the control metric's noise.
            A split that steers is biased upwards: what just meets the floor there, misses it elsewhere.
        harder: which part of the plain network's difference between control and validation the aim on control
            allows for. A compressed network has about half of it (ten LeNet-5s, docs/log.md): some images are hard for
            every network, the rest was chance.
        smooth: how much of the last epochs' margin the controller remembers, 0 to less than 1.
        least: the multiplier stays at or above this.
        most: and at or below this.

    Raises:
        ConfigError: a value is out of range.
    """

    structure: bool = True
    bits: bool = True
    warm: bool = False
    rate: float = 0.12
    begin: float = 0.5
    brake: float = 3.0
    anticipate: float = 0.0
    cycle_rate: float = 1.0
    settle: float = 0.1
    ahead: float = 0.5
    harder: float = 0.5
    smooth: float = 0.6
    least: float = 1e-2
    most: float = 1e2

    def __post_init__(self) -> None:
        for name, low, high in (
            ("rate", 0.0, 5.0),
            ("begin", 0.0, 1.0),
            ("brake", 0.0, 100.0),
            ("anticipate", 0.0, 10.0),
            ("cycle_rate", 0.0, 5.0),
            ("settle", 0.0, 1.0),
            ("ahead", 0.0, 10.0),
            ("harder", 0.0, 1.0),
            ("smooth", 0.0, 0.99),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(
                    f"SteerSettings.{name}: got {value}, expected {low:g} to {high:g}"
                )
        if not 0 < self.least <= 1 <= self.most < math.inf:
            raise ConfigError(
                f"SteerSettings: got least={self.least}, most={self.most}, expected 0 < least <= 1 <= most"
            )


def room_of(floor: Floor, margin: float) -> float:
    """The share of what a floor lets a network lose that has not been lost yet, 0 to 1.

    Args:
        floor: accuracy >= 0.99 lets 1 % of the answers be wrong, NLL <= 0.05 lets 0.05 nats be lost.
        margin: of the network (``Floor.margin``): at 99.4 % two fifths of that are left.
    """
    value = floor.value
    allowed = 1.0 - value if floor.larger_is_better and 0.0 < value < 1.0 else abs(value)
    if not (allowed > 0.0 and math.isfinite(margin)):
        return 0.0
    return min(1.0, max(0.0, margin / allowed))


class Constraint(Protocol):
    """What is held: a floor under the metric, or a cap on the bytes.

    ``patient``: is it worse while the step size is large, so that to wait is right?
    """

    @property
    def patient(self) -> bool: ...

    def push(self, metric: float, size_bytes: float) -> float:
        """How far there is room for more complexity weight, in units of its own noise; NaN = none."""
        ...


@dataclass(frozen=True)
class HeldFloor:
    """The metric stays at the floor.

    Args:
        floor: what must hold.
        examples: how many the metric is measured on; gives its noise.
        ahead: how many of its standard deviations above the floor are aimed at.
        slack: how far below the floor is as good, in the metric's unit.
        patient: see ``Constraint``.
    """

    floor: Floor
    examples: int
    ahead: float = 0.0
    slack: float = 0.0
    patient: bool = True

    @property
    def width(self) -> float:
        """The metric's noise: binomial for values between 0 and 1, 1 % of the value otherwise.

        An NLL of 0.05 has about the noise of a share of 0.05: both come from the few examples that are hard.
        """
        value = self.floor.value
        if 0.0 < value < 1.0:
            return math.sqrt(value * (1.0 - value) / self.examples)
        return max(1e-2 * abs(value), 1e-6)

    def push(self, metric: float, size_bytes: float) -> float:
        del size_bytes
        return (self.floor.margin(metric) + self.slack) / self.width - self.ahead


@dataclass(frozen=True)
class HeldBudget:
    """The file stays within its bytes.

    Args:
        budget_bytes: the cap.
        width: the logarithm of a factor in size that counts as much as the metric's noise does.
        share: of the budget that is aimed at: a file that is a byte too large is of no use.
        patient: see ``Constraint``.
    """

    budget_bytes: int
    width: float = 0.05
    share: float = 0.97
    patient: bool = False

    def push(self, metric: float, size_bytes: float) -> float:
        del metric
        return math.log(size_bytes / (self.share * self.budget_bytes)) / self.width


@dataclass
class Controller:
    """The multiplier's state; ``state`` and ``load`` make it part of a checkpoint.

    Args:
        settings: how it moves.
        constraint: what it holds.
    """

    settings: SteerSettings
    constraint: Constraint
    remembered: float | None = None

    def next(
        self,
        multiplier: float,
        *,
        metric: float,
        size_bytes: float,
        done: float,
        cycle_ends: bool | None = None,
    ) -> float:
        """The multiplier for the next epoch.

        Args:
            multiplier: the present one.
            metric: on the control split, now.
            size_bytes: predicted, now.
            done: share of the epochs that are done.
            cycle_ends: of a stage of several cycles: does one end now? None = there is one only.
        """
        settings = self.settings
        push = self.constraint.push(metric, size_bytes)
        if cycle_ends is not None and self.constraint.patient:
            if not cycle_ends:
                return multiplier
            return self._moved(multiplier, push, settings.cycle_rate, width=CYCLE_WIDTH)
        if self.remembered is not None and math.isfinite(push):
            push = settings.smooth * self.remembered + (1.0 - settings.smooth) * push
        if math.isfinite(push):
            self.remembered = push
        begin = settings.begin if self.constraint.patient else settings.begin / 2.0
        if done < begin:
            push = min(0.0, push + settings.brake)
        damped = min(1.0, (1.0 - done) / settings.settle) if settings.settle else 1.0
        return self._moved(multiplier, push, settings.rate * damped)

    def _moved(self, multiplier: float, push: float, rate: float, *, width: float = 1.0) -> float:
        least, most = self.settings.least, self.settings.most
        return steered(multiplier, margin=push, width=width, rate=rate, least=least, most=most)
