"""One searched quantity: what values it may take, and how near two of them are."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from epigram.errors import ConfigError

Value: TypeAlias = bool | int | float | str | None
"""What a searched setting can be: whatever JSON has a word for and a flag can say."""


@dataclass(frozen=True)
class Real:
    """A number between ``low`` and ``high``, both included.

    Example:
        >>> Real(0.01, 1.0, log=True).at(0.5)
        0.1
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, log=self.log, kind="Real")

    def at(self, share: float) -> float:
        """The value that lies so far (0 to 1) along the range."""
        if not self.log:
            return self.low + share * (self.high - self.low)
        value = math.exp(math.log(self.low) + share * math.log(self.high / self.low))
        return min(self.high, max(self.low, float(f"{value:.12g}")))

    def encode(self, value: Value) -> list[float]:
        """Where ``value`` lies along the range; not bound to 0..1 outside of it."""
        number = _number(value)
        if self.log:
            return [math.log(max(number, 1e-300) / self.low) / math.log(self.high / self.low)]
        return [(number - self.low) / (self.high - self.low)]

    def has(self, value: object) -> bool:
        """Is ``value`` one of this dimension's?"""
        return _is_number(value) and self.low <= value <= self.high  # type: ignore[operator]

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}{' log' if self.log else ''}"


@dataclass(frozen=True)
class Whole:
    """A whole number between ``low`` and ``high``, both included.

    Example:
        >>> Whole(10, 1000, log=True).at(0.5)
        100
    """

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        if type(self.low) is not int or type(self.high) is not int:
            raise ConfigError(
                f"Whole: got {self.low!r}..{self.high!r}, expected two whole numbers; "
                "Real takes others"
            )
        _check_range(self.low, self.high, log=self.log, kind="Whole")

    def at(self, share: float) -> int:
        """The value that lies so far (0 to 1) along the range."""
        if self.log:
            exact = math.exp(math.log(self.low) + share * math.log(self.high / self.low))
            return min(self.high, max(self.low, round(exact)))
        return min(self.high, self.low + int(share * (self.high - self.low + 1)))

    def encode(self, value: Value) -> list[float]:
        """Where ``value`` lies along the range."""
        return Real(float(self.low), float(self.high), self.log).encode(value)

    def has(self, value: object) -> bool:
        """Is ``value`` one of this dimension's?"""
        return type(value) is int and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low}..{self.high}{' log' if self.log else ''}"


@dataclass(frozen=True)
class Choice:
    """One of a few values without an order."""

    options: tuple[Value, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(self.options))
        if len(self.options) < 2 or len({repr(option) for option in self.options}) < len(
            self.options
        ):
            raise ConfigError(
                f"Choice: got {self.options!r}, expected two or more different values"
            )
        for option in self.options:
            if not (option is None or isinstance(option, bool | int | float | str)):
                raise ConfigError(
                    f"Choice: got {option!r}, expected a number, a text, true, false or none"
                )

    def at(self, share: float) -> Value:
        """The option that lies so far (0 to 1) along the list."""
        return self.options[min(len(self.options) - 1, int(share * len(self.options)))]

    def encode(self, value: Value) -> list[float]:
        """One figure per option, 1 for ``value``."""
        return [float(type(option) is type(value) and option == value) for option in self.options]

    def has(self, value: object) -> bool:
        """Is ``value`` one of this dimension's?"""
        return any(type(option) is type(value) and option == value for option in self.options)

    def __str__(self) -> str:
        return "|".join("none" if o is None else str(o).lower() for o in self.options)


Dimension: TypeAlias = Real | Whole | Choice

_RANGE = re.compile(r"^\s*([-+0-9.eE]+)\s*\.\.\s*([-+0-9.eE]+?)\s*(?:[ ,:]\s*(log))?\s*$")


def parse(text: str, *, where: str) -> Dimension:
    """A dimension as a person writes it: ``0.1..3``, ``0.1..3 log``, ``30..300``, ``adam|sgd``.

    Raises:
        ConfigError: the text is of neither form, or the range is empty.

    Example:
        >>> parse("1e-4..1e-2 log", where="lr"), parse("true|false", where="clamp")
        (Real(low=0.0001, high=0.01, log=True), Choice(options=(True, False)))
    """
    match = _RANGE.match(text)
    try:
        if match is None:
            if "|" not in text:
                raise ValueError
            return Choice(tuple(_word(word) for word in text.split("|")))
        low, high, log = match.groups()
        if low.lstrip("-+").isdigit() and high.lstrip("-+").isdigit():
            return Whole(int(low), int(high), log is not None)
        return Real(float(low), float(high), log is not None)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    except ValueError:
        raise ConfigError(
            f"{where}: got {text!r}, expected a range '0.1..3' (or '0.1..3 log') or a choice 'a|b'"
        ) from None


def to_plain(dimension: Dimension) -> dict[str, Any]:
    """The dimension as JSON can hold it."""
    if isinstance(dimension, Choice):
        return {"choice": list(dimension.options)}
    kind = "whole" if isinstance(dimension, Whole) else "real"
    return {kind: [dimension.low, dimension.high], "log": dimension.log}


def from_plain(plain: Mapping[str, Any]) -> Dimension:
    """The inverse of ``to_plain``."""
    if "choice" in plain:
        return Choice(tuple(plain["choice"]))
    kind: type[Whole | Real] = Whole if "whole" in plain else Real
    low, high = plain["whole" if kind is Whole else "real"]
    return kind(low, high, bool(plain["log"]))


def _word(text: str) -> Value:
    word = text.strip()
    known: dict[str, Value] = {"true": True, "false": False, "none": None}
    if word.lower() in known:
        return known[word.lower()]
    for read in (int, float):
        try:
            return read(word)
        except ValueError:
            continue
    return word


def _check_range(low: float, high: float, *, log: bool, kind: str) -> None:
    finite = _is_number(low) and _is_number(high) and math.isfinite(low) and math.isfinite(high)
    if not finite or not low < high or (log and low <= 0):
        need = "0 < low < high" if log else "low < high"
        raise ConfigError(f"{kind}: got {low!r}..{high!r}, expected finite numbers with {need}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Value) -> float:
    assert isinstance(value, int | float), "checked by has()"
    return float(value)


def encode_all(dimensions: Sequence[Dimension], values: Sequence[Value]) -> list[float]:
    """All values in a row of figures, numbers as shares of their range, choices one-hot."""
    return [x for d, v in zip(dimensions, values, strict=True) for x in d.encode(v)]
