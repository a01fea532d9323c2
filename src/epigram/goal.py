"""What a run is asked for: a floor, a drop from the plain network, or a budget of bytes."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from epigram.errors import ConfigError
from epigram.records import Floor

_SHARES = ("accuracy", "error", "calibration_error")
"""Built-in metrics that lie between 0 and 1."""
_LESS_IS_BETTER = ("error", "nll", "calibration_error")
_UNITS = {"": 1, "b": 1, "kb": 1000, "kib": 1024, "mb": 1000**2, "mib": 1024**2}
_METRIC = re.compile(r"^\s*([A-Za-z_]\w*)\s*(<=|>=)?\s*$")
_SIZE = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*$")


@dataclass(frozen=True)
class Goal:
    """What is asked.

    Attributes:
        floor: the metric and its least acceptable value. With a drop or a budget the value is a
            placeholder until the plain network is known (``resolved``).
        budget: bytes; None = there is none.
        max_drop: how much worse than the plain network, in the metric's unit; None = not asked.
    """

    floor: Floor
    budget: int | None = None
    max_drop: float | None = None

    @classmethod
    def of(
        cls,
        floor: str | Floor,
        budget: int | None = None,
        max_drop: float | None = None,
        *,
        metric: str | None = None,
        named: bool = True,
    ) -> Goal:
        """Read what was asked; at most one of the three may be.

        Args:
            floor: the floor; with a budget or a drop its metric counts. "" = accuracy.
            budget: bytes.
            max_drop: in the metric's unit.
            metric: what a budget makes best, or a drop is measured in; None = the floor's. Of a metric of your own more is
                better, unless it is told as ``name<=``.
            named: was the floor asked for by the caller? Else it is a default that gives way.

        Raises:
            ConfigError: more than one is asked, or a value is out of range.
        """
        if budget is None and max_drop is None:
            if metric is not None:
                raise ConfigError(
                    f"metric: got {metric!r} without a budget or a max_drop; expected one of them: a floor names its "
                    "metric itself"
                )
            return cls(Floor.parse(floor))
        if (budget is not None and max_drop is not None) or named:
            raise ConfigError(
                "goal: got more than one of floor, budget and max_drop; expected one of them"
            )
        if budget is not None and budget < 1:
            raise ConfigError(f"budget: got {budget}, expected at least 1 byte")
        if max_drop is not None and not (0.0 <= max_drop < math.inf):
            raise ConfigError(f"max_drop: got {max_drop}, expected a number >= 0")
        default = Floor.parse(floor) if floor else Floor("accuracy", 0.0)
        if metric is not None:
            default = _measured_in(metric)
        if default.metric in _SHARES and (max_drop or 0.0) >= 1.0:
            raise ConfigError(
                f"max_drop: got {max_drop:g}, expected less than 1 for {default.metric}, a share of the examples; "
                "half a point is 0.005"
            )
        return cls(default, budget, max_drop)

    @property
    def is_relative(self) -> bool:
        """Does the plain network, rather than a number, say what is acceptable?"""
        return self.budget is not None or self.max_drop is not None

    def resolved(self, plain_value: float) -> Floor:
        """The floor, once the plain network's value on validation is known.

        With a budget it is the plain network's value: what the structure pass is measured against.
        """
        if not self.is_relative:
            return self.floor
        drop = self.max_drop or 0.0
        value = plain_value - drop if self.floor.larger_is_better else plain_value + drop
        return replace(self.floor, value=round(value, 12))

    def __str__(self) -> str:
        if self.budget is not None:
            return f"{self.floor.metric} in {self.budget} bytes"
        if self.max_drop is not None:
            return f"{self.floor.metric} within {self.max_drop:g} of the plain network"
        return str(self.floor)


def _measured_in(metric: str) -> Floor:
    """A floor without a value yet, of a metric as a person names it: ``nll``, ``mine<=``."""
    match = _METRIC.match(metric)
    if match is None:
        raise ConfigError(
            f"metric: got {metric!r}, expected a name such as 'nll', or 'name<=' for one of your own of which less is better"
        )
    name, relation = match.groups()
    less = relation == "<=" if relation else name in _LESS_IS_BETTER
    return Floor(name, 0.0, not less)


def check_sense(floor: Floor) -> None:
    """Does a floor on a built-in metric bound it on the side where it is bad, by a number that it can have?

    Raises:
        ConfigError: it does not.
    """
    if floor.metric in ("accuracy", *_LESS_IS_BETTER) and floor.larger_is_better == (
        floor.metric in _LESS_IS_BETTER
    ):
        better, sign = ("less", "<=") if floor.larger_is_better else ("more", ">=")
        raise ConfigError(
            f"floor: got {floor}, expected {floor.metric}{sign}...: {better} of it is better, and a floor is the least "
            "that is acceptable"
        )
    if floor.metric in _SHARES and floor.value > 1.0:
        article = "a" if floor.metric.startswith("c") else "an"
        raise ConfigError(
            f"floor: got {floor}, expected {article} {floor.metric} of at most 1; "
            "write '98.2%' or 0.982 for 98.2 per cent"
        )


def parse_bytes(text: str) -> int:
    """A size as a person writes it: ``900``, ``1kB``, ``2.5 KiB``.

    Raises:
        ConfigError: it is none, or below one byte.

    Example:
        >>> parse_bytes("1kB"), parse_bytes("2.5 KiB"), parse_bytes("900")
        (1000, 2560, 900)
    """
    match = _SIZE.match(text)
    unit = None if match is None else _UNITS.get(match.group(2).lower())
    whole = match is not None and (bool(match.group(2)) or match.group(1).isdigit())
    if match is None or unit is None or not whole or float(match.group(1)) * unit < 1:
        raise ConfigError(f"budget: got {text!r}, expected a size such as 900, 1kB or 2.5KiB")
    return int(float(match.group(1)) * unit)
