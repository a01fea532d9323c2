"""Numbers that modules keep beside their tensors and that have to follow (``num_heads``, ``sizes[1]``).

Candidates are whole numbers that ``forward`` really reads, in modules through which the units of a
group pass, where the number is the length of an axis that those units are part of. Whether one
should follow, the trial removals judge.
"""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

from torch import nn

from epigram.records import Attribute
from epigram.structure.copying import fresh
from epigram.structure.grouping import owners
from epigram.structure.narrow import can_be_narrow
from epigram.structure.numbers import attribute_of, numbers_of
from epigram.structure.trace import evaluating

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from epigram.records import Group, Structure
    from epigram.structure.propagate import Propagation

_MOST_KINDS_IN_PAIRS = 6


def candidates(
    structure: Structure,
    propagation: Propagation,
    network: nn.Module,
    inputs: tuple[Any, ...],
) -> list[Attribute]:
    """Every number that could have to follow the structure's groups."""
    lengths = _lengths(structure, propagation)
    if not lengths:
        return []
    read = _numbers_read(network, inputs)
    found = set()
    for (size, base, per_unit), modules in lengths.items():
        found |= {
            Attribute(module, name, base, per_unit)
            for module in modules
            for name, value in read.get(module, {}).items()
            if value == size
        }
    return sorted(found, key=lambda a: (a.path, a.base, a.per_unit))


def choices(network: nn.Module, found: Sequence[Attribute]) -> Iterator[list[Attribute]]:
    """Subsets to try, small ones first: none; one kind; two kinds; all but one kind; all.

    A kind is the same number of every module of a class, following in the same way. The entries of a
    tuple are of one kind, but for those of a shape (``nn.Unflatten``), of which one counts the units. Then
    all of them once more, with modules that become narrow.
    """
    subsets = list(_subsets(network, found))
    yield from subsets
    for subset in subsets:
        narrow = [_narrowed(attribute, network) for attribute in subset]
        if narrow != subset:
            yield narrow


def _narrowed(attribute: Attribute, network: nn.Module) -> Attribute:
    """The same number following in a narrow module, where that can be."""
    whole = attribute_of(attribute.name) == attribute.name
    can = whole and can_be_narrow(network.get_submodule(attribute.module))
    return replace(attribute, narrow=True) if can else attribute


def _subsets(network: nn.Module, found: Sequence[Attribute]) -> Iterator[list[Attribute]]:
    kinds: dict[tuple[Any, ...], list[Attribute]] = defaultdict(list)
    for attribute in found:
        module = type(network.get_submodule(attribute.module))
        is_shape = issubclass(module, nn.Unflatten)
        kept = attribute.name if is_shape else attribute_of(attribute.name)
        counts = tuple(count for _, count in attribute.per_unit)
        single = (attribute.base, counts) if kept == attribute.name else ()
        kinds[module, kept, *single].append(attribute)
    names = list(kinds)
    subsets: list[list[tuple[Any, ...]]] = [[], *([name] for name in names)]
    if len(names) <= _MOST_KINDS_IN_PAIRS:
        subsets += [list(pair) for pair in combinations(names, 2)]
    subsets += [*([n for n in names if n != one] for one in names), names]
    tried = set()
    for subset in subsets:
        if frozenset(subset) not in tried:
            tried.add(frozenset(subset))
            yield [attribute for kind in subset for attribute in kinds[kind]]


def settled(
    found: Sequence[Attribute], groups: Sequence[Group], names: set[str]
) -> tuple[Attribute, ...]:
    """The numbers that follow any group of these names; the units of the others, which stay, are constants."""
    units = {group.name: group.units for group in groups}
    kept = []
    for a in found:
        staying = sum(count * units[group] for group, count in a.per_unit if group not in names)
        per_unit = tuple((group, count) for group, count in a.per_unit if group in names)
        if per_unit:
            kept.append(replace(a, base=a.base + staying, per_unit=per_unit))
    return tuple(kept)


def _lengths(
    structure: Structure, propagation: Propagation
) -> dict[tuple[int, int, tuple[tuple[str, int], ...]], set[str]]:
    """Lengths of axes along which units of groups lie -> the modules in which they do.

    A length is its value, what of it are no units of groups, and how many places each group's unit has.
    """
    group_of, space = owners(structure, propagation), propagation.space
    units = {group.name: group.units for group in structure.groups}
    found: dict[tuple[int, int, tuple[tuple[str, int], ...]], set[str]] = defaultdict(set)
    for labels, modules in propagation.activations():
        for axis in space.varying(labels):
            roots = space.roots(_along(labels, axis)).tolist()
            counted = Counter(group_of[root] for root in roots if root in group_of)
            if counted and all(count % units[name] == 0 for name, count in counted.items()):
                per_unit = tuple(sorted((n, count // units[n]) for n, count in counted.items()))
                found[len(roots), len(roots) - sum(counted.values()), per_unit].update(modules)
    return found


def _along(labels: Tensor, axis: int) -> Tensor:
    for other in reversed(range(labels.dim())):
        if other != axis:
            labels = labels.select(other, 0)
    return labels


def _numbers_read(network: nn.Module, inputs: tuple[Any, ...]) -> dict[str, dict[str, int]]:
    """Module -> the whole numbers among its attributes that one forward pass reads.

    The modules have subclasses of their classes for that while; where a forward pass does not like
    that, every whole number counts as read.
    """
    numbers = {name: numbers_of(module) for name, module in network.named_modules()}
    read: dict[int, set[str]] = defaultdict(set)
    before = [(module, module.__class__) for module in network.modules()]
    try:
        for module, own in before:
            module.__class__ = _listening(own, read)
        with evaluating(network):
            network(*fresh(inputs))
    except Exception:  # noqa: BLE001 - forward is the user's, it may raise anything
        return numbers
    finally:
        for module, own in before:
            module.__class__ = own
    return {
        name: {
            key: value
            for key, value in numbers[name].items()
            if attribute_of(key) in read[id(module)]
        }
        for name, module in network.named_modules()
    }


def _listening(own: type[nn.Module], read: dict[int, set[str]]) -> type[nn.Module]:
    def get(self: nn.Module, name: str) -> Any:
        read[id(self)].add(name)
        return own.__getattribute__(self, name)

    with contextlib.suppress(TypeError):
        return type(own.__name__, (own,), {"__getattribute__": get, "__module__": own.__module__})
    return own
