"""Some values replaced: what flags and config files do to settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from epigram.config.describe import dotted_keys, hints_of, unknown_key
from epigram.config.fit import fit_value, named
from epigram.errors import ConfigError

T = TypeVar("T")


def with_overrides(settings: T, overrides: Mapping[str, Any]) -> T:
    """A copy with some values replaced; keys are dotted paths, or nested mappings of them.

    Values given as text (from a flag or a config file) are read as the field's own type.

    Raises:
        ConfigError: as for ``from_dict``.

    Example:
        >>> from epigram.records import Floor
        >>> with_overrides(Floor("accuracy", 0.9), {"value": "0.98"}).value
        0.98
    """
    return _override(settings, _nest(overrides), "", list(dotted_keys(type(settings))))


def _override(settings: T, changes: Mapping[str, Any], prefix: str, known: list[str]) -> T:
    hints = hints_of(type(settings))
    replaced: dict[str, Any] = {}
    for key, value in changes.items():
        where = prefix + key
        if key not in hints:
            raise unknown_key(where, known)
        current = getattr(settings, key)
        if dataclasses.is_dataclass(current) and isinstance(value, Mapping):
            replaced[key] = _override(current, value, f"{where}.", known)
        else:
            replaced[key] = fit_value(value, hints[key], where, text=True)
    with named(prefix.rstrip(".")):
        return dataclasses.replace(settings, **replaced)  # type: ignore[type-var]


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for dotted, value in flat.items():
        *path, last = dotted.split(".")
        place = nested
        for part in path:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ConfigError(f"'{dotted}': '{part}' is given both as a value and as a section")
        item = _nest(value) if isinstance(value, Mapping) else value
        if isinstance(item, dict) and isinstance(place.get(last), dict):
            place[last].update(item)
        else:
            place[last] = item
    return nested


def read_file(path: str | Path) -> dict[str, Any]:
    """The settings in a YAML or JSON file, as plain data to hand to ``with_overrides``.

    Raises:
        ConfigError: the file cannot be read or is not a mapping of settings.
    """
    try:
        loaded = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"config file {path}: cannot be read: {reason}") from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"config file {path}: not valid YAML: {reason}") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict) or not all(isinstance(key, str) for key in loaded):
        raise ConfigError(f"config file {path}: expected lines of 'key: value', got {loaded!r}")
    return loaded
