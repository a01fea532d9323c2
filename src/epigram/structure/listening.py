"""Sizes that remember what they are compared with, and where: lent to ``forward`` for one call."""

from __future__ import annotations

import linecache
import operator
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from epigram.structure.functions import EveryFunction
from epigram.structure.lines import is_of_network

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType

_SIZES = (
    torch.Tensor.size,
    torch.Tensor.shape.__get__,  # type: ignore[attr-defined]
    torch.Tensor.numel,
    torch.Tensor.nelement,
    torch.numel,
)
_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
_ARITHMETIC = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor")
_LINEAR = ("add", "sub", "mul", "truediv")


@dataclass(frozen=True)
class Question:
    """A comparison of numbers that come from sizes.

    Attributes:
        file: where it is written.
        line: of that file.
        name: which comparison it is, of :mod:`operator`.
        left: the one number.
        right: the other.
        sizes: what they come from.
        linear: are they linear in these?
    """

    file: str
    line: int
    name: str
    left: float
    right: float
    sizes: tuple[int, ...]
    linear: bool = field(compare=False)

    @property
    def source(self) -> str:
        """The line of code."""
        return linecache.getline(self.file, self.line).strip()[:80]

    def is_that_of(self, other: Question) -> bool:
        """Is it asked at the same place?"""
        return (self.file, self.line, self.name) == (other.file, other.line, other.name)

    @property
    def gap(self) -> float:
        """What the answer hangs on."""
        return self.left - self.right

    def is_settled(self, moves: Mapping[str, float], units: Mapping[str, int]) -> bool:
        """Is the answer the same for all numbers of units, of all groups together?

        Args:
            moves: group -> what one unit of it adds to the gap.
            units: group -> how many it has; one always stays.
        """
        spans = {name: move * (units[name] - 1) for name, move in moves.items()}
        low = self.gap - sum(span for span in spans.values() if span > 0)
        high = self.gap - sum(span for span in spans.values() if span < 0)
        if self.name in ("eq", "ne"):
            return self.linear and (low == high or low > 0 or high < 0)
        answer = getattr(operator, self.name)
        return self.linear and bool(answer(low, 0) == answer(high, 0))


class Listener(EveryFunction):
    """Hands out sizes that tell it what they are compared with."""

    def __init__(self) -> None:
        super().__init__()
        self.questions: list[Question] = []

    def call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = func(*args, **kwargs)
        if func not in _SIZES:
            return result
        if isinstance(result, torch.Size):
            return torch.Size([_size(n, self.questions, (n,)) for n in result])
        return _size(result, self.questions, (result,))


class _Number:
    """What integers and fractions that come from sizes have in common."""

    questions: list[Question]
    sizes: tuple[int, ...]
    linear: bool

    def _ask(self, name: str, other: Any, frame: FrameType) -> Any:
        answer = getattr(operator, name)(_plain(self), _plain(other))
        file = frame.f_code.co_filename
        if isinstance(other, int | float) and is_of_network(file):
            linear = self.linear and getattr(other, "linear", True)
            numbers = float(_plain(self)), float(_plain(other))
            sizes = self.sizes + getattr(other, "sizes", ())
            self.questions.append(Question(file, frame.f_lineno, name, *numbers, sizes, linear))
        return answer

    def _computed(self, name: str, left: Any, right: Any) -> Any:
        if not isinstance(left, int | float) or not isinstance(right, int | float):
            return NotImplemented
        both = isinstance(left, _Number) and isinstance(right, _Number)
        linear = name in _LINEAR and not (both and name in ("mul", "truediv"))
        if name == "truediv" and isinstance(right, _Number):
            linear = False
        linear = linear and getattr(left, "linear", True) and getattr(right, "linear", True)
        operation = getattr(operator, f"__{name}__")
        sizes = getattr(left, "sizes", ()) + getattr(right, "sizes", ())
        return _size(operation(_plain(left), _plain(right)), self.questions, sizes, linear=linear)


class _Whole(_Number, int):
    """A size, or what was computed from sizes."""


class _Fraction(_Number, float):
    """A quotient of sizes."""


def _size(
    value: Any, questions: list[Question], sizes: tuple[int, ...], *, linear: bool = True
) -> Any:
    if not isinstance(value, int | float):
        return value
    size: Any = _Whole(value) if isinstance(value, int) else _Fraction(value)
    size.questions, size.sizes, size.linear = questions, sizes, linear
    return size


def _plain(value: Any) -> Any:
    if not isinstance(value, _Number):
        return value
    return int.__int__(value) if isinstance(value, int) else float.__float__(value)  # type: ignore[arg-type]


def _equip() -> None:
    """Lambdas, as nothing must stand between an operation and the frame that asks for it."""
    for name in _COMPARISONS:
        setattr(
            _Number,
            f"__{name}__",
            lambda self, other, name=name: self._ask(name, other, sys._getframe(1)),  # noqa: SLF001
        )
    for name in _ARITHMETIC:
        setattr(
            _Number,
            f"__{name}__",
            lambda self, other, name=name: self._computed(name, self, other),
        )
        setattr(
            _Number,
            f"__r{name}__",
            lambda self, other, name=name: self._computed(name, other, self),
        )
    setattr(_Number, "__bool__", lambda self: self._ask("ne", 0, sys._getframe(1)))  # noqa: B010, SLF001
    setattr(_Number, "__neg__", lambda self: self._computed("sub", 0, self))  # noqa: B010
    for kind in (_Whole, _Fraction):
        kind.__hash__ = kind.__mro__[2].__hash__  # type: ignore[assignment]


_equip()
