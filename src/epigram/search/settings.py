"""How a study is run, and what of that can never change once it has begun."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, get_args

from epigram.errors import ConfigError
from epigram.records import Floor
from epigram.search.choosing import SamplerName, check_sampler
from epigram.search.forecasting import LOOKS
from epigram.search.objective import Objective
from epigram.search.stopping import Stopping, StopRule

PROTOCOL: Final = 1
"""Of ``study.json`` and the ledger."""


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """How trials are proposed, watched and judged.

    Args:
        seed: of everything random; trials train with it, replicates with the ones after it.
        sampler: ``auto``, ``gp``, ``tpe`` or ``random``.
        size_key: what is made small, in ``result.json``.
        margin: standard errors above the floor that a trial needs to count while searching.
        stopping: ``off``, ``forecast`` or ``hyperband`` (on the raw error, for comparison).
        rule: when ``forecast`` stops a trial.
        forecasts: forecast the ends of trials (and write the forecasts down), whether or not one stops.
        looks: fractions of a trial at which one looks.
        confirm: so many of the best designs are trained anew in the end; 0 = none.
        confirm_seeds: with so many new seeds each.

    Raises:
        ConfigError: a value is out of range.
    """

    seed: int = 0
    sampler: SamplerName = "auto"
    size_key: str = "size_bytes"
    margin: float = 1.0
    stopping: Stopping = "off"
    rule: StopRule = field(default_factory=StopRule)
    forecasts: bool = True
    looks: tuple[float, ...] = LOOKS
    confirm: int = 3
    confirm_seeds: int = 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "looks", tuple(self.looks))
        check_sampler(self.sampler)
        if self.stopping not in get_args(Stopping):
            raise ConfigError(
                f"stopping: got {self.stopping!r}, expected one of {', '.join(get_args(Stopping))}"
            )
        for name, least in (("seed", 0), ("confirm", 0), ("confirm_seeds", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ConfigError(f"{name}: got {value!r}, expected a whole number >= {least}")
        if self.stopping == "forecast" and not self.forecasts:
            raise ConfigError("stopping: 'forecast' needs forecasts; they are switched off")

    def objective(self, floor: Floor) -> Objective:
        """What is wanted."""
        return Objective(floor, self.size_key, self.margin)
