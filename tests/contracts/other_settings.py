"""Another valid value for any one leaf of the settings: whatever is changed must make another run."""

from __future__ import annotations

import functools
from typing import Any, Literal, get_args, get_origin

from epigram import config
from epigram.pipeline import CompressSettings


def changed(made: CompressSettings, key: str) -> CompressSettings:
    """The settings with the leaf at a dotted key given another valid value."""
    *path, name = key.split(".")
    section: Any = functools.reduce(getattr, path, made)
    value, hint = getattr(section, name), config.hints_of(type(section))[name]
    if get_origin(hint) is Literal:
        other = next(word for word in get_args(hint) if word != value)
    elif isinstance(value, bool):
        other = not value
    elif isinstance(value, str):
        other = f"{value}:1"
    elif value == ():
        other = (0,)
    elif isinstance(value, tuple):
        other = tuple(0.9 * item for item in value)
    elif value is None:
        other = 1.0
    else:
        other = value + 1 if isinstance(value, int) else 0.9 * value or 0.25
    return config.with_overrides(made, {key: other})
