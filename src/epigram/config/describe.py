"""What a settings class says of itself: its keys, their types, what each is for."""

from __future__ import annotations

import dataclasses
import difflib
import enum
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import docstring_parser

from epigram.errors import ConfigError


def hints_of(cls: type) -> dict[str, Any]:
    """The settings of one class, without those nested deeper: name -> type."""
    hints = get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.init}


def dotted_keys(cls: type) -> Iterator[str]:
    """Every setting of ``cls`` and of the settings nested in it, as dotted paths."""
    for name, hint in hints_of(cls).items():
        inner = section_type(hint)
        if inner is None:
            yield name
        else:
            yield from (f"{name}.{key}" for key in dotted_keys(inner))


def help_of(cls: type) -> dict[str, str]:
    """What each field is for, from the ``Attributes:`` (or ``Args:``) of the class's docstring."""
    parsed = docstring_parser.parse(cls.__doc__ or "", docstring_parser.DocstringStyle.GOOGLE)
    return {
        entry.arg_name: " ".join((entry.description or "").replace("``", "").split())
        for entry in parsed.params
    }


def section_type(hint: Any) -> type | None:
    """The settings class behind a type (``Adam`` for ``Adam | None``), or None for a plain type."""
    choices = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    inner = [c for c in choices if isinstance(c, type) and dataclasses.is_dataclass(c)]
    return inner[0] if len(inner) == 1 else None


def unknown_key(key: str, known: Sequence[str]) -> ConfigError:
    """The answer to a key nobody knows: the nearest one, or all of them by their groups."""
    near = difflib.get_close_matches(key, known, n=1) or [
        name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]
    ]
    if near:
        return ConfigError(f"unknown key '{key}'; did you mean '{near[0]}'?")
    groups = dict.fromkeys(f"{n.partition('.')[0]}.*" if "." in n else n for n in known)
    return ConfigError(f"unknown key '{key}'; the keys are {', '.join(groups)}")


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
