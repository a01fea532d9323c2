"""Settings as flags: ``--structure.epochs 30`` is the line ``structure: {epochs: 30}`` of a config file.

The flags are not listed anywhere: they are the fields of the settings classes. They are taken out of
the arguments before argparse sees these, so that no settings class (and no torch) has to be imported
in order to read a command line or to print its help.
"""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import yaml

from epigram import config
from epigram.cli.parser import Parser
from epigram.errors import ConfigError

T = TypeVar("T")


def split_settings(parser: Parser, argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The arguments ``parser`` knows, and the rest as settings: dotted key -> text.

    ``--a.b 3`` and ``--a.b=3`` are the same, dashes and underscores too; a flag without a value (the
    last one, or before another flag) means true.
    """
    known, settings = [], {}
    waiting = list(argv)
    while waiting:
        token = waiting.pop(0)
        flag, equals, value = token.partition("=")
        if token == "--":
            known += [token, *waiting]
            break
        if not flag.startswith("--") or flag in parser.flags():
            known.append(token)
            if not equals and parser.takes_value(flag) and waiting:
                known.append(waiting.pop(0))
            continue
        if not equals:
            value = "true" if not waiting or waiting[0].startswith("--") else waiting.pop(0)
        settings[flag.removeprefix("--").replace("-", "_")] = value
    return known, settings


def apply_settings(
    parser: Parser, settings: T, flags: Mapping[str, str], *, file: str | None = None
) -> T:
    """The recipe's settings, changed by the config file, changed by the flags.

    Raises:
        ConfigError: a key or flag nobody knows (the nearest one is suggested), or a wrong value.
    """
    keys = list(config.dotted_keys(type(settings)))
    sections = {key.rpartition(".")[0] for key in keys}
    for key in flags:
        if key not in keys and not any(key.startswith(f"{known}.") for known in keys):
            dotted = _elsewhere(key, keys)
            spelled = "--" + key.replace("_", "-" if "." not in key else "_")
            if key in sections:
                raise ConfigError(f"--{key} is a section; its flags are --{key}.<setting>")
            raise parser.unknown(spelled, [f"--{known}" for known in dotted or keys])
    if file is not None:
        settings = config.with_overrides(settings, file_settings(config.read_file(file)))
    return config.with_overrides(settings, flags)


def file_settings(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings in a config file; in a run's own ``config.json`` they are a section of it."""
    for section in ("config", "settings"):
        inner = content.get(section)
        content = inner if isinstance(inner, Mapping) else content
    return content


def _elsewhere(key: str, keys: Sequence[str]) -> list[str]:
    """Settings of that very name in some section."""
    return [known for known in keys if known.rpartition(".")[2] == key.rpartition(".")[2]]


def describe(settings: object) -> str:
    """All flags of ``settings``: value, type and what each is for, section by section."""
    return "\n".join(_describe(settings, ""))


def _describe(settings: object, prefix: str) -> Iterator[str]:
    assert dataclasses.is_dataclass(settings) and not isinstance(settings, type)
    hints, helps = config.hints_of(type(settings)), config.help_of(type(settings))
    inner = []
    for name, hint in hints.items():
        value = getattr(settings, name)
        if dataclasses.is_dataclass(value):
            inner.append((f"{prefix}{name}", value, helps.get(name, "")))
            continue
        yield f"  --{prefix}{name} {_plain(value)}   ({config.type_name(hint)})"
        if helps.get(name):
            yield textwrap.fill(helps[name], 100, initial_indent=" " * 8, subsequent_indent=" " * 8)
    for name, value, summary in inner:
        yield ""
        yield f"{name}: {summary}" if summary else f"{name}:"
        yield from _describe(value, f"{name}.")


def _plain(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple | list):
        return ",".join(map(_plain, value)) or "[]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def as_yaml(settings: object) -> str:
    """All settings as a config file, to be edited and given back with ``--config``."""
    text: str = yaml.safe_dump(config.to_dict(settings), sort_keys=False, allow_unicode=True)
    return text
