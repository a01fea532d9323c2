"""Frozen settings: the same dataclass is filled from code, from a config file and from flags.

A settings class is an ordinary frozen dataclass whose fields have plain types (numbers, strings, paths,
literals, enums, tuples, lists, mappings, optional values, other settings classes). Nothing here knows
which settings there are; they stand beside the code they govern.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import hashlib
import json
import math
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import yaml

from epigram.errors import ConfigError

T = TypeVar("T")

ABSENT: Final = "(absent)"
"""Stands in a difference for a key that one side does not have."""

_TRUE: Final = frozenset({"true", "yes", "on", "1"})
_FALSE: Final = frozenset({"false", "no", "off", "0"})
_NONE: Final = frozenset({"none", "null", ""})


# --- settings -> plain data -------------------------------------------------------------------


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


# --- plain data -> settings -------------------------------------------------------------------


def from_dict(cls: type[T], mapping: Mapping[str, Any]) -> T:
    """Build ``cls`` (and the settings nested in it) from plain data, checking every key and type.

    Keys that are left out take their defaults.

    Raises:
        ConfigError: an unknown key (the message suggests the nearest one), a missing key without a
            default, or a value of the wrong type or refused by the class itself.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Cut:
        ...     max_log_alpha: float = 3.0
        >>> from_dict(Cut, {"max_logalpha": 2.0})
        Traceback (most recent call last):
        epigram.errors.ConfigError: unknown key 'max_logalpha'; did you mean 'max_log_alpha'?
    """
    return _build(cls, mapping, "", text=False)


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
    hints = _hints(type(settings))
    replaced: dict[str, Any] = {}
    for key, value in changes.items():
        where = prefix + key
        if key not in hints:
            raise _unknown(where, known)
        current = getattr(settings, key)
        if dataclasses.is_dataclass(current) and isinstance(value, Mapping):
            replaced[key] = _override(current, value, f"{where}.", known)
        else:
            replaced[key] = _fit(value, hints[key], where, text=True)
    with _named(prefix.rstrip(".")):
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


def _build(cls: type[T], mapping: object, where: str, *, text: bool) -> T:
    if not isinstance(mapping, Mapping):
        raise ConfigError(
            f"{where or cls.__name__}: got {mapping!r}, expected a section of settings"
        )
    hints = _hints(cls)
    prefix = f"{where}." if where else ""
    for key in mapping:
        if key not in hints:
            raise _unknown(f"{prefix}{key}", [prefix + name for name in hints])
    values = {
        key: _fit(value, hints[key], prefix + key, text=text) for key, value in mapping.items()
    }
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        required = field.default is field.default_factory is dataclasses.MISSING
        if field.init and required and field.name not in values:
            raise ConfigError(f"missing key '{prefix}{field.name}', which has no default")
    with _named(where):
        return cls(**values)


class _named:  # noqa: N801 - reads as a word in a with statement
    """Turn what a settings class refuses into a ConfigError that says in which section."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ValueError | TypeError):
            at = f"{self.where}: " if self.where else ""
            raise ConfigError(f"{at}{error}") from error


def _hints(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.init}


def dotted_keys(cls: type) -> Iterator[str]:
    """Every setting of ``cls`` and of the settings nested in it, as dotted paths."""
    for name, hint in _hints(cls).items():
        inner = section_type(hint)
        if inner is None:
            yield name
        else:
            yield from (f"{name}.{key}" for key in dotted_keys(inner))


def section_type(hint: Any) -> type | None:
    """The settings class behind a type (``Adam`` for ``Adam | None``), or None for a plain type."""
    choices = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    inner = [c for c in choices if isinstance(c, type) and dataclasses.is_dataclass(c)]
    return inner[0] if len(inner) == 1 else None


def _unknown(key: str, known: Sequence[str]) -> ConfigError:
    near = difflib.get_close_matches(key, known, n=1) or [
        name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]
    ]
    if near:
        return ConfigError(f"unknown key '{key}'; did you mean '{near[0]}'?")
    return ConfigError(f"unknown key '{key}'; the keys are {', '.join(known)}")


# --- one value against one type ---------------------------------------------------------------


def _fit(value: Any, hint: Any, where: str, *, text: bool) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any or hint is object:
        return value
    if origin is Annotated:
        return _fit(value, arguments[0], where, text=text)
    if origin in (Union, types.UnionType):
        return _fit_union(value, arguments, where, text=text)
    if origin is Literal:
        return _fit_literal(value, arguments, where)
    if origin in (tuple, list, Sequence):
        return _fit_sequence(value, hint, where, text=text)
    if origin in (dict, Mapping):
        return _fit_mapping(value, hint, where, text=text)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else _build(hint, value, where, text=text)
    return _fit_plain(value, hint, where, text=text)


def _fit_plain(value: Any, hint: Any, where: str, *, text: bool) -> Any:
    if hint is types.NoneType and (value is None or (text and _word(value) in _NONE)):
        return None
    if hint is bool and isinstance(value, bool):
        return value
    if hint is bool and text and _word(value) in _TRUE | _FALSE:
        return _word(value) in _TRUE
    if hint is int and (type(value) is int or (text and isinstance(value, str))):
        return _read(int, value, hint, where)
    if hint is float and _like_float(value, text=text):
        number = float(_read(float, value, hint, where))
        if not math.isnan(number):
            return number
    if hint is str and isinstance(value, str):
        return value
    if hint is Path and isinstance(value, str | Path):
        return Path(value)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _read(hint, value, hint, where)
    raise _wrong(value, hint, where)


def _like_float(value: Any, *, text: bool) -> bool:
    if isinstance(value, str):
        return text or value in {"inf", "-inf"}
    return isinstance(value, int | float) and not isinstance(value, bool)


def _read(read: Any, value: Any, hint: Any, where: str) -> Any:
    try:
        return read(value)
    except ValueError:
        raise _wrong(value, hint, where) from None


def _fit_union(value: Any, choices: tuple[Any, ...], where: str, *, text: bool) -> Any:
    # None first, so that the text "none" is not taken for a string; str last, since it takes any text.
    order = sorted(choices, key=lambda choice: (choice is str) - (choice is types.NoneType))
    refusals = []
    for choice in order:
        try:
            return _fit(value, choice, where, text=text)
        except ConfigError as refusal:
            refusals.append(refusal)
    sections = [r for r, c in zip(refusals, order, strict=True) if section_type(c) is not None]
    if isinstance(value, Mapping) and len(sections) == 1:
        raise sections[0]
    raise _wrong(value, Union[choices], where)  # noqa: UP007 - a union made at run time


def _fit_literal(value: Any, choices: tuple[Any, ...], where: str) -> Any:
    for choice in choices:
        if value == choice and type(value) is type(choice):
            return choice
    message = f"{where}: got {value!r}, expected one of {', '.join(map(repr, choices))}"
    near = difflib.get_close_matches(str(value), [str(choice) for choice in choices], n=1)
    raise ConfigError(message + (f"; did you mean {near[0]!r}?" if near else ""))


def _fit_sequence(value: Any, hint: Any, where: str, *, text: bool) -> Any:
    arguments = get_args(hint)
    if text and isinstance(value, str):
        value = [part.strip() for part in value.strip("[]() ").split(",") if part.strip()]
    if not isinstance(value, list | tuple):
        raise _wrong(value, hint, where)
    if get_origin(hint) is tuple and arguments[-1] is not Ellipsis:
        if len(value) != len(arguments):
            raise _wrong(value, hint, where)
        each = arguments
    else:
        each = (arguments[0],) * len(value)
    items = [
        _fit(item, kind, f"{where}[{at}]", text=text)
        for at, (item, kind) in enumerate(zip(value, each, strict=True))
    ]
    return items if get_origin(hint) is list else tuple(items)


def _fit_mapping(value: Any, hint: Any, where: str, *, text: bool) -> Any:
    if not isinstance(value, Mapping):
        raise _wrong(value, hint, where)
    kind = get_args(hint)[1]
    return {str(key): _fit(item, kind, f"{where}.{key}", text=text) for key, item in value.items()}


def _word(value: Any) -> str | None:
    return value.strip().lower() if isinstance(value, str) else None


def _wrong(value: Any, hint: Any, where: str) -> ConfigError:
    return ConfigError(f"{where}: got {value!r}, expected {type_name(hint)}")


def type_name(hint: Any) -> str:
    """A type as a person writes it: ``int``, ``float | none``, ``one of 'adam', 'sgd'``."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is types.NoneType:
        return "none"
    if origin is Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if origin in (Union, types.UnionType):
        return " | ".join(type_name(argument) for argument in arguments)
    if isinstance(hint, type) and origin is None:
        if issubclass(hint, enum.Enum):
            return "one of " + ", ".join(repr(member.value) for member in hint)
        return hint.__name__.lower() if hint is Path else hint.__name__
    return str(hint).replace("typing.", "")


# --- config files, identity, differences ------------------------------------------------------


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
