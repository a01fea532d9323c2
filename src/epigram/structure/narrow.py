"""Modules whose ``forward`` takes sizes from its input, with fewer units than that input is wide.

``x.reshape(B, N, 3, self.num_heads, C // self.num_heads)`` and ``x.reshape(B, N, C)`` say C, the width of
the input, where they mean all heads together. When heads are removed such a module changes its class to
a subclass of its own, made here, with the same ``forward`` read in two other ways:

* a width divided by a number that has lost units is divided by what the number was: a head stays as
  wide as it is;
* a ``reshape`` or ``view`` whose sizes do not fit the tensor lets the last of them follow. What would
  have worked works as before.

Whether ``forward`` is right when it is read so, trial removals judge, as for every other removal.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from epigram.structure.functions import EveryFunction
from epigram.structure.numbers import is_of_torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_RESHAPES = (torch.Tensor.reshape, torch.Tensor.view, torch.reshape)


class Count(int):
    """How many units are left of ``whole``; a width divided by it is divided by ``whole``.

    Example:
        >>> heads = Count(3, 4)
        >>> heads, heads + 1, 24 // heads
        (3, 4, 6)
    """

    whole: int

    def __new__(cls, left: int, whole: int) -> Count:  # noqa: PYI034 - beartype cannot follow Self here
        count = super().__new__(cls, left)
        count.whole = whole
        return count

    def __getnewargs__(self) -> tuple[int, int]:  # type: ignore[override]
        return int(self), self.whole

    def __mul__(self, other: Any) -> Any:
        return int(self) * other

    __rmul__ = __mul__  # symbolic sizes refuse subclasses of int

    def __rfloordiv__(self, width: Any) -> Any:
        return width // self.whole

    def __rtruediv__(self, width: Any) -> Any:
        return width / self.whole

    def __rmod__(self, width: Any) -> Any:
        return width % self.whole


class NarrowForward:
    """What the classes made by :func:`narrow_` have in common; their instances can be pickled and copied.

    Attributes:
        whole_numbers: how many units those numbers counted that have followed a removal since.
    """

    whole_numbers: Mapping[str, int]

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        del protocol
        own: Any = type(self)
        return _renewed, (own.wide, tuple(self.whole_numbers)), vars(self)


def can_be_narrow(module: nn.Module) -> bool:
    """Could its ``forward`` be read the other way? Layers of torch check their sizes in other code."""
    return not is_of_torch(module) and "forward" not in vars(module)


def narrow_(module: nn.Module, name: str) -> None:
    """Have this number's losses told from the input's width by ``forward``: the module changes its class."""
    own: Any = type(module)
    before: Mapping[str, int] = getattr(module, "whole_numbers", {})
    numbers = {name: int(vars(module)[name]), **before}
    module.whole_numbers = numbers  # type: ignore[assignment]
    module.__class__ = _narrow_class(getattr(own, "wide", own), tuple(numbers))


@functools.cache
def _narrow_class(wide: Any, names: tuple[str, ...]) -> Any:
    """A subclass of the user's class; each of the numbers is a :class:`Count` to who reads it."""

    @functools.wraps(wide.forward)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        with _LastSizeFollows():
            return wide.forward(self, *args, **kwargs)

    contents = {name: _counted(name) for name in names}
    own = {"wide": wide, "forward": forward, "__module__": __name__, "__doc__": wide.__doc__}
    return type(f"Narrow{wide.__name__}", (NarrowForward, wide), contents | own)


def _counted(name: str) -> property:
    def get(self: Any) -> Count:
        return Count(vars(self)[name], self.whole_numbers[name])

    def put(self: Any, value: int) -> None:
        vars(self)[name] = int(value)

    return property(get, put)


def _renewed(wide: Any, names: tuple[str, ...]) -> nn.Module:
    """An empty instance, to be filled by its ``__setstate__``."""
    own = _narrow_class(wide, names)
    empty: nn.Module = own.__new__(own)
    return empty


class _LastSizeFollows(EveryFunction):
    """Sizes asked of ``reshape`` or ``view`` that do not fit: the last is what is left of the tensor."""

    def call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func in _RESHAPES and len(args) > 1 and not kwargs:
            tensor, *given = args
            sizes = given[0] if isinstance(given[0], tuple | list) else given
            if _are_sizes(sizes) and math.prod(sizes) != tensor.numel():
                return func(tensor, (*sizes[:-1], -1))
        return func(*args, **kwargs)


def _are_sizes(sizes: Any) -> bool:
    """All of them told, none to be worked out."""
    numbers = all(isinstance(size, int | torch.SymInt) for size in sizes)
    return bool(sizes) and numbers and not any(type(s) is int and s < 0 for s in sizes)
