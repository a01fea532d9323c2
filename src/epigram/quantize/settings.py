"""How finely weights are told."""

from __future__ import annotations

import math
from dataclasses import dataclass

from epigram.errors import ConfigError


@dataclass(frozen=True)
class QuantizeSettings:
    """The exchange rate between bits and precision, and how long it is searched for.

    Args:
        coarsest: largest price of a nat of code, in nats of expected extra loss over the data set.
        finest: smallest price tried; where even that misses the floor, its file is returned.
        trials: how many prices are tried, between these two, on the control split.
        sweeps: how often symbols are chosen anew under the code lengths they themselves produce.
        order_tries: how many orders of its units a small file is measured in, after all else is settled; 0 = they stay
            in theirs. Bare files only: named ones say which of the original's units are left.

    Raises:
        ConfigError: a value is out of range.
    """

    coarsest: float = 1000.0
    finest: float = 0.001
    trials: int = 40
    sweeps: int = 3
    order_tries: int = 300

    def __post_init__(self) -> None:
        if not 0 < self.finest <= self.coarsest < math.inf:
            raise ConfigError(
                f"QuantizeSettings: got finest={self.finest}, coarsest={self.coarsest}, "
                "expected 0 < finest <= coarsest"
            )
        for name, least in (("trials", 1), ("sweeps", 0), ("order_tries", 0)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"QuantizeSettings.{name}: got {getattr(self, name)}, expected >= {least}"
                )
