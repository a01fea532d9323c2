"""Settings that change what is written and when, never what is computed: no part of an identity."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from epigram.config.plain import to_dict
from epigram.errors import ConfigError

_MARK: Final = "bookkeeping"


def bookkeeping(default: Any) -> Any:
    """A field of a settings class that two runs may differ in and still be the same run."""
    return dataclasses.field(default=default, metadata={_MARK: True})


def split_bookkeeping(settings: object) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings as plain data, in two: what is computed with, and bookkeeping.

    Both keep the sections of the settings; a section without bookkeeping is left out of the second.

    Raises:
        ConfigError: as for ``to_dict``.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Stage:
        ...     epochs: int = 3
        ...     checkpoint_every_epochs: int = bookkeeping(1)
        >>> split_bookkeeping(Stage())
        ({'epochs': 3}, {'checkpoint_every_epochs': 1})
    """
    if not dataclasses.is_dataclass(settings) or isinstance(settings, type):
        raise ConfigError(f"settings: got {settings!r}, expected an instance of a dataclass")
    computed, kept = to_dict(settings), {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.metadata.get(_MARK):
            kept[field.name] = computed.pop(field.name)
        elif dataclasses.is_dataclass(value):
            computed[field.name], inner = split_bookkeeping(value)
            kept |= {field.name: inner} if inner else {}
    return computed, kept
