"""What is searched: some fields of a settings tree, each with the values it may take."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from epigram import config
from epigram.errors import ConfigError
from epigram.search import dimensions
from epigram.search.dimensions import Choice, Dimension, Value

WIDTHS: Final = "widths"
"""The section of a space that sets the network's widths and not a field of the settings."""


@dataclass(frozen=True)
class Space:
    """Dotted names of settings, and the values each may take.

    Args:
        dimensions: name -> ``Real``, ``Whole`` or ``Choice``; the order is the space's own.

    Raises:
        ConfigError: there are none.

    Example:
        >>> space = Space({"lr": dimensions.Real(1e-4, 1e-2, log=True)})
        >>> space.at([0.5])
        {'lr': 0.001}
    """

    dimensions: Mapping[str, Dimension]

    def __post_init__(self) -> None:
        if not self.dimensions:
            raise ConfigError("Space: got no dimensions, expected at least one setting to vary")
        object.__setattr__(self, "dimensions", MappingProxyType(dict(self.dimensions)))

    def __len__(self) -> int:
        return len(self.dimensions)

    def at(self, shares: Sequence[float]) -> dict[str, Value]:
        """The values that lie so far (0 to 1 each) along their ranges."""
        return {
            name: dimension.at(float(share))
            for (name, dimension), share in zip(self.dimensions.items(), shares, strict=True)
        }

    def encode(self, values: Mapping[str, Value]) -> list[float]:
        """The values as a row of figures; see ``feature_names``."""
        order = list(self.dimensions)
        return dimensions.encode_all(list(self.dimensions.values()), [values[n] for n in order])

    @functools.cached_property
    def feature_names(self) -> tuple[str, ...]:
        """What each figure of ``encode`` is of."""
        return tuple(
            f"{name}={option}" if option is not None else name
            for name, dimension in self.dimensions.items()
            for option in (map(str, dimension.options) if isinstance(dimension, Choice) else [None])
        )

    def check(self, values: Mapping[str, Any]) -> dict[str, Value]:
        """The values in the space's order.

        Raises:
            ConfigError: one is missing, unknown, or out of its range.
        """
        for name in values:
            if name not in self.dimensions:
                raise config.unknown_key(name, list(self.dimensions))
        for name, dimension in self.dimensions.items():
            if name not in values or not dimension.has(values[name]):
                got = values.get(name, "nothing")
                raise ConfigError(f"{name}: got {got!r}, expected a value of {dimension}")
        return {name: values[name] for name in self.dimensions}

    def nearest(self, values: Mapping[str, Any]) -> dict[str, Value]:
        """The values, put on the border where they lie outside; the first option for what is unknown."""
        inside: dict[str, Value] = {}
        for name, dimension in self.dimensions.items():
            value = values.get(name)
            if dimension.has(value):
                inside[name] = value
            elif isinstance(dimension, Choice) or not isinstance(value, int | float):
                inside[name] = dimension.at(0.5)
            else:
                ends = (dimension.low, dimension.high)
                inside[name] = min(ends, key=lambda end, v=value: abs(end - v))  # type: ignore[misc]
        return inside

    def random(self, generator: np.random.Generator) -> dict[str, Value]:
        """A point drawn uniformly (on the log scale where a dimension is so)."""
        return self.at(generator.random(len(self)).tolist())

    def plain(self) -> dict[str, Any]:
        """The space as JSON can hold it, in order."""
        return {name: dimensions.to_plain(d) for name, d in self.dimensions.items()}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Space:
        """The inverse of ``plain``."""
        return cls({name: dimensions.from_plain(d) for name, d in plain.items()})


def check_fits(space: Space, base: object, widths: Mapping[str, int] | None = None) -> None:
    """Refuse a space that the settings would refuse, before the first trial rather than in the last.

    Args:
        space: what is searched.
        base: a settings dataclass, or a mapping of settings.
        widths: the widths that the network has; None = it has none to vary.

    Raises:
        ConfigError: a name is no setting (the nearest one is suggested), or an end of a range or an
            option is refused by the settings class.
    """
    for name, dimension in space.dimensions.items():
        ends = (
            dimension.options if isinstance(dimension, Choice) else (dimension.low, dimension.high)
        )
        if name.startswith(f"{WIDTHS}."):
            known = [f"{WIDTHS}.{width}" for width in widths or {}]
            if name not in known:
                raise config.unknown_key(name, known or ["a recipe with widths"])
            if not (isinstance(dimension, dimensions.Whole) and dimension.low >= 1):
                raise ConfigError(f"{name}: got {dimension}, expected whole numbers from 1 on")
            continue
        for end in ends:
            resolve(base, {name: end})


def resolve(base: object, values: Mapping[str, Value]) -> Any:
    """The settings with the searched values in their places; widths are left out.

    Raises:
        ConfigError: a name is no setting, or a value is refused.

    Example:
        >>> resolve({"model": {"depth": 2, "width": 8}}, {"model.width": 16})
        {'model': {'depth': 2, 'width': 16}}
    """
    own = {name: value for name, value in values.items() if not name.startswith(f"{WIDTHS}.")}
    if dataclasses.is_dataclass(base) and not isinstance(base, type):
        return config.with_overrides(base, own)
    if not isinstance(base, Mapping):
        raise ConfigError(f"settings: got {base!r}, expected a dataclass or a mapping")
    settings = copy.deepcopy(dict(base))
    for name, value in own.items():
        *path, last = name.split(".")
        place = settings
        for part in path:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{name}: {part!r} is a value, not a section of the settings")
        place[last] = value
    return settings


def widths_of(values: Mapping[str, Value]) -> dict[str, int]:
    """The widths among the searched values, without their section's name."""
    prefix = f"{WIDTHS}."
    return {
        name.removeprefix(prefix): int(value)  # type: ignore[arg-type]
        for name, value in values.items()
        if name.startswith(prefix)
    }


def current(base: object, names: Sequence[str], widths: Mapping[str, int]) -> dict[str, Any]:
    """What ``base`` (and the network) has for the searched names: the known-safe point to begin with."""
    plain = config.to_dict(base) if dataclasses.is_dataclass(base) else base
    found: dict[str, Any] = {}
    for name in names:
        value: Any = plain
        if name.startswith(f"{WIDTHS}."):
            value = widths.get(name.removeprefix(f"{WIDTHS}."))
        else:
            for part in name.split("."):
                value = value.get(part) if isinstance(value, Mapping) else None
        found[name] = value
    return found
