"""Plain data into settings: every key and every type is checked."""

from __future__ import annotations

import dataclasses
import difflib
import enum
import math
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin

from epigram.config.describe import hints_of, section_type, type_name, unknown_key
from epigram.errors import ConfigError

T = TypeVar("T")

_TRUE: Final = frozenset({"true", "yes", "on", "1"})
_FALSE: Final = frozenset({"false", "no", "off", "0"})
_NONE: Final = frozenset({"none", "null", ""})


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


def _build(cls: type[T], mapping: object, where: str, *, text: bool) -> T:
    if not isinstance(mapping, Mapping):
        raise ConfigError(
            f"{where or cls.__name__}: got {mapping!r}, expected a section of settings"
        )
    hints = hints_of(cls)
    prefix = f"{where}." if where else ""
    for key in mapping:
        if key not in hints:
            raise unknown_key(f"{prefix}{key}", [prefix + name for name in hints])
    values = {
        key: fit_value(value, hints[key], prefix + key, text=text) for key, value in mapping.items()
    }
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        required = field.default is field.default_factory is dataclasses.MISSING
        if field.init and required and field.name not in values:
            raise ConfigError(f"missing key '{prefix}{field.name}', which has no default")
    with named(where):
        return cls(**values)


class named:  # noqa: N801 - reads as a word in a with statement
    """Turn what a settings class refuses into a ConfigError that says in which section."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ValueError | TypeError):
            at = f"{self.where}: " if self.where else ""
            raise ConfigError(f"{at}{error}") from error


def fit_value(value: Any, hint: Any, where: str, *, text: bool) -> Any:
    """``value`` as the type ``hint`` wants it; with ``text``, strings are read as that type.

    Raises:
        ConfigError: it does not fit; the message names ``where``, the value and the type.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any or hint is object:
        return value
    if origin is Annotated:
        return fit_value(value, arguments[0], where, text=text)
    if origin in (Union, types.UnionType):
        return _fit_union(value, arguments, where, text=text)
    if origin is Literal:
        return _fit_literal(value, arguments, where, text=text)
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
            return fit_value(value, choice, where, text=text)
        except ConfigError as refusal:
            refusals.append(refusal)
    sections = [r for r, c in zip(refusals, order, strict=True) if section_type(c) is not None]
    if isinstance(value, Mapping) and len(sections) == 1:
        raise sections[0]
    raise _wrong(value, Union[choices], where)  # noqa: UP007 - a union made at run time


def _fit_literal(value: Any, choices: tuple[Any, ...], where: str, *, text: bool) -> Any:
    for choice in choices:
        same_type = type(value) is type(choice)
        if (value == choice and same_type) or (text and value == str(choice)):
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
        fit_value(item, kind, f"{where}[{at}]", text=text)
        for at, (item, kind) in enumerate(zip(value, each, strict=True))
    ]
    return items if get_origin(hint) is list else tuple(items)


def _fit_mapping(value: Any, hint: Any, where: str, *, text: bool) -> Any:
    if not isinstance(value, Mapping):
        raise _wrong(value, hint, where)
    kind = get_args(hint)[1]
    return {
        str(key): fit_value(item, kind, f"{where}.{key}", text=text) for key, item in value.items()
    }


def _word(value: Any) -> str | None:
    return value.strip().lower() if isinstance(value, str) else None


def _wrong(value: Any, hint: Any, where: str) -> ConfigError:
    return ConfigError(f"{where}: got {value!r}, expected {type_name(hint)}")
