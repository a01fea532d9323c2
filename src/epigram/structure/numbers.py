"""The whole numbers that modules keep beside their tensors, by name.

``num_heads`` is an attribute, ``split_sizes[1]`` an entry of one that is a tuple or a list. Those of
torch's own layers (strides, shapes) repeat what their tensors say and are not counted among the latter, but
for the shape of an ``nn.Unflatten``, which has no tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOST_ENTRIES = 16


def numbers_of(module: nn.Module) -> dict[str, int]:
    """Name -> value of every whole number the module keeps.

    Example:
        >>> block = nn.Module()
        >>> block.heads, block.sizes = 4, (8, 2)
        >>> numbers_of(block)
        {'heads': 4, 'sizes[0]': 8, 'sizes[1]': 2}
    """
    held: Mapping[str, Any] = vars(module)
    found = {name: value for name, value in held.items() if type(value) is int}
    if is_of_torch(module) and not isinstance(module, nn.Unflatten):
        return found
    for name, value in held.items():
        if _are_numbers(value):
            found |= {f"{name}[{place}]": entry for place, entry in enumerate(value)}
    return found


def attribute_of(name: str) -> str:
    """The attribute a number is, or is an entry of: ``split_sizes`` for ``split_sizes[1]``."""
    return name.partition("[")[0]


def has_number(module: nn.Module, name: str) -> bool:
    """Does the module keep a number of that name?"""
    value: Any = vars(module).get(attribute_of(name))
    place = _place(name)
    if place is None:
        return type(value) is int
    return _are_numbers(value) and place < len(value)


def set_number_(module: nn.Module, name: str, value: int) -> None:
    """Give a number that the module keeps another value; a list or tuple is replaced, not changed."""
    attribute, place = attribute_of(name), _place(name)
    if place is None:
        setattr(module, attribute, value)
        return
    before = vars(module)[attribute]
    after = [value if i == place else entry for i, entry in enumerate(before)]
    setattr(module, attribute, type(before)(after))


def _place(name: str) -> int | None:
    inside = name.partition("[")[2].removesuffix("]")
    return int(inside) if inside.isdigit() else None


def _are_numbers(value: Any) -> bool:
    if type(value) not in (tuple, list, torch.Size):  # a subclass may not be built from its entries
        return False
    return 0 < len(value) <= _MOST_ENTRIES and all(type(entry) is int for entry in value)


def is_of_torch(module: nn.Module) -> bool:
    """Is its class one of torch's own layers, or made of one?"""
    bases = [kind for kind in type(module).__mro__ if kind is not nn.Module]
    return any(kind.__module__.startswith("torch.nn.modules.") for kind in bases)
