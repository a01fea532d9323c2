"""Settings as plain data, and what plain data says of a run: its identity, its differences."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from epigram.errors import ConfigError

ABSENT: Final = "(absent)"
"""Stands in a difference for a key that one side does not have."""


def to_dict(settings: object) -> dict[str, Any]:
    """The settings as plain data that JSON can hold; ``from_dict`` brings them back.

    Tuples become lists, paths and enums strings, infinities the strings ``"inf"`` and ``"-inf"``.

    Raises:
        ConfigError: ``settings`` is not a dataclass, or a value has no plain form (or is NaN).

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Adam:
        ...     learning_rate: float = 1e-3
        ...     betas: tuple[float, float] = (0.9, 0.999)
        >>> to_dict(Adam())
        {'learning_rate': 0.001, 'betas': [0.9, 0.999]}
    """
    if not dataclasses.is_dataclass(settings) or isinstance(settings, type):
        raise ConfigError(f"settings: got {settings!r}, expected an instance of a dataclass")
    return {
        field.name: _plain(getattr(settings, field.name), field.name)
        for field in dataclasses.fields(settings)
        if field.init
    }


def _plain(value: object, where: str) -> Any:
    if value is None or (isinstance(value, bool | int | str) and not isinstance(value, enum.Enum)):
        return value
    if isinstance(value, float):
        return _plain_float(value, where)
    if isinstance(value, enum.Enum):
        return _plain(value.value, where)
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_plain(item, f"{where}[{at}]") for at, item in enumerate(value)]
    raise ConfigError(f"{where}: a {type(value).__name__} cannot be written to a config file")


def _plain_float(value: float, where: str) -> float | str:
    if math.isnan(value):
        raise ConfigError(f"{where}: got NaN, expected a number")
    return value if math.isfinite(value) else str(value)


def identity(mapping: Mapping[str, Any]) -> str:
    """A run's identity: the SHA-256, in hexadecimal, of the mapping written in one canonical way.

    The order of keys does not matter, nor whether a whole number is an int or a float.

    Raises:
        ConfigError: a value has no plain form.

    Example:
        >>> identity({"a": 1, "b": 0.5}) == identity({"b": 0.5, "a": 1.0})
        True
    """
    text = json.dumps(
        _canonical(_plain(mapping, "identity")), sort_keys=True, separators=(",", ":")
    )
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _canonical(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return value


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Every setting in which two nested mappings differ: dotted key -> (value in a, value in b).

    A key that only one side has stands against ``ABSENT``. Keys are sorted.

    Example:
        >>> differences({"plain": {"epochs": 3}, "seed": 0}, {"plain": {"epochs": 5}, "seed": 0})
        {'plain.epochs': (3, 5)}
    """
    flat_a, flat_b = dict(_leaves(a)), dict(_leaves(b))
    return {
        key: (flat_a.get(key, ABSENT), flat_b.get(key, ABSENT))
        for key in sorted(flat_a.keys() | flat_b.keys())
        if flat_a.get(key, ABSENT) != flat_b.get(key, ABSENT)
    }


def _leaves(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
