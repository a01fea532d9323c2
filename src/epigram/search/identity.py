"""Which run is which: the name of a run says everything that makes it what it is.

Opt-out, never opt-in: every setting is in the identity unless its field is marked as bookkeeping. A
setting that is added later is in it by default.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from epigram import config
from epigram.errors import ConfigError
from epigram.search.dimensions import Value
from epigram.search.space import resolve, widths_of

SCHEMA: Final = 1
"""Of identities and of ``config.json``: changing it makes every run another run."""

_CHARS = 16  # 80 bits: two of a billion runs collide with a chance of one in two million


def run_id(identified: Mapping[str, Any]) -> str:
    """16 letters and digits of the SHA-256 of everything that makes a run what it is.

    Example:
        >>> run_id({"lr": 0.1}) == run_id({"lr": 0.1}) != run_id({"lr": 0.2})
        True
    """
    digest = bytes.fromhex(config.identity({"schema": SCHEMA, **identified}))
    return base64.b32encode(digest).decode("ascii").lower()[:_CHARS]


def resolved(base: object, values: Mapping[str, Value], *, seed: int) -> tuple[dict[str, Any], Any]:
    """A trial's complete settings as plain data, in two: what is computed with, and bookkeeping.

    A field called ``seed`` of the settings takes the trial's seed; defaults are written out.

    Raises:
        ConfigError: a value is refused by the settings.
    """
    settings = resolve(base, values)
    if not dataclasses.is_dataclass(settings):
        if "seed" in settings:
            settings = {**settings, "seed": seed}
        return {"settings": settings, "widths": widths_of(values)}, {}
    if "seed" in {field.name for field in dataclasses.fields(settings)}:
        settings = config.with_overrides(settings, {"seed": seed})
    computed, kept = config.split_bookkeeping(settings)
    return {"settings": computed, "widths": widths_of(values)}, kept


def file_digest(path: Path) -> str:
    """The SHA-256 of a file's content, read piece by piece.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; expected a file") from error


def derived_seed(*parts: object) -> int:
    """A seed of 31 bits that follows from the parts and from nothing else.

    Example:
        >>> derived_seed(0, "ask", 3) == derived_seed(0, "ask", 3) != derived_seed(0, "ask", 4)
        True
    """
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def check_plain(value: object, where: str) -> None:
    """Refuse what would not be the same in every process.

    Raises:
        ConfigError: it cannot be written as JSON.
    """
    try:
        config.identity({"value": value})
    except (ConfigError, TypeError) as error:
        raise ConfigError(f"{where}: {error}; expected plain data (JSON)") from error
