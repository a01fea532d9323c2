"""Networks whose forward pass cannot be exported: the parts of it that can are analysed by themselves.

Detection models choose boxes by their values, so nobody can follow them from end to end; their
backbones, heads and feature pyramids are ordinary networks. Every module is given the inputs it got in
one real call of the whole. The largest modules that can be followed become parts: what they take and
what they give stays, what is inside may go. Then the whole network judges, by trial removals, whether
it may.
"""

from __future__ import annotations

import inspect
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from epigram.errors import UnsupportedModelError
from epigram.records import Attribute, Group, LeftWhole, PositionAxis
from epigram.structure.copying import copied, fresh
from epigram.structure.grouping import SizedStructure
from epigram.structure.trace import as_tuple, evaluating, first_names, named_tensors
from epigram.structure.transformers import without_fast_path
from epigram.structure.trial import confirmed

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from epigram.structure.trace import ExampleInputs

    Analysis = Callable[[nn.Module, tuple[Any, ...]], SizedStructure]


@dataclass
class _Call:
    """How a module was called first, and whether anything inside of it was called from outside."""

    inputs: tuple[Any, ...] | None = None
    modules_above: set[frozenset[str]] = field(default_factory=set)


def analyse_parts(
    model: nn.Module, example_inputs: ExampleInputs, analysis: Analysis, failure: Exception
) -> SizedStructure:
    """The structure of the largest parts that can be analysed; the rest is left whole and named.

    Args:
        model: whose forward pass cannot be followed.
        example_inputs: the positional arguments of one call.
        analysis: what finds the structure of a part.
        failure: why the whole cannot be followed.

    Raises:
        UnsupportedModelError: ``failure``, if no part of it has units that may go.
    """
    inputs = as_tuple(example_inputs)
    try:
        calls = _watched(copied(model), fresh(inputs))
    except Exception:  # noqa: BLE001 - forward is the user's, it may raise anything
        raise failure from None
    found: dict[str, SizedStructure] = {}
    left: dict[str, str] = {}
    for name, module in model.named_children():
        _descend(module, name, calls, analysis, found, left)
    united = _united(model, found)
    if not united.groups:
        raise failure
    parts = ", ".join(name for name, part in found.items() if part.groups)
    whole = LeftWhole(
        "forward",
        "export",
        f"{failure}; analysed by themselves, their inputs and outputs kept: {parts}",
    )
    others = tuple(LeftWhole(name, "export", reason) for name, reason in left.items())
    united = replace(united, left_whole=(whole, *others, *united.left_whole))
    return confirmed(united, model, inputs)


def _watched(model: nn.Module, inputs: tuple[Any, ...]) -> dict[str, _Call]:
    """One call of a copy of the model: what every module was first called with, and inside of which others."""
    calls = {name: _Call() for name, _ in model.named_modules()}
    running: list[str] = []

    def enter(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            call = calls[name]
            call.modules_above.add(frozenset(running))
            if call.inputs is None:
                call.inputs = _by_position(module, args, kwargs)
            running.append(name)

        return hook

    def leave(*_: Any) -> None:
        running.pop()

    with evaluating(model), without_fast_path(), ExitStack() as stack:
        for name, module in model.named_modules():
            stack.callback(module.register_forward_pre_hook(enter(name), with_kwargs=True).remove)
            stack.callback(module.register_forward_hook(leave, always_call=True).remove)
        model(*inputs)
    return calls


def _by_position(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, ...] | None:
    """What a module was called with, as positional arguments; None where it takes some by keyword only."""
    if not kwargs:
        return args
    try:
        bound = inspect.signature(module.forward).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return None
    given = set(bound.arguments)
    bound.apply_defaults()
    return None if given.intersection(bound.kwargs) or "kwargs" in given else bound.args


def _descend(
    module: nn.Module,
    name: str,
    calls: dict[str, _Call],
    analysis: Analysis,
    found: dict[str, SizedStructure],
    left: dict[str, str],
) -> None:
    """This module as one part; or else each of its children, and so on."""
    if name not in calls or next(module.parameters(), None) is None:  # shared ones have one name
        return
    call = calls[name]
    intruders: list[str] = []
    reason = "it is not called by positional arguments"
    if call.inputs is not None:
        intruders = _called_from_elsewhere(name, calls)
        reason = f"{intruders[0]} is called from elsewhere, too" if intruders else ""
        if not reason:
            try:
                found[name] = analysis(module, call.inputs)
            except UnsupportedModelError as error:
                reason = str(error)
            else:
                return
    children = [(f"{name}.{leaf}", child) for leaf, child in module.named_children()]
    if not children or intruders or next(module.parameters(recurse=False), None) is not None:
        left[name] = reason
    for path, child in children:
        _descend(child, path, calls, analysis, found, left)


def _called_from_elsewhere(name: str, calls: dict[str, _Call]) -> list[str]:
    inside = [path for path in calls if path.startswith(f"{name}.")]
    return [
        path for path in inside if any(name not in above for above in calls[path].modules_above)
    ]


def _united(model: nn.Module, found: dict[str, SizedStructure]) -> SizedStructure:
    """The parts' structures under the names of the whole; groups that touch others' tensors stay."""
    shapes = {n: tuple(t.shape) for n, t in named_tensors(model).items()}
    groups: list[Group] = []
    positions: list[PositionAxis] = []
    left: list[LeftWhole] = []
    attributes: list[Attribute] = []
    for name, part in found.items():
        outside = _first_names_outside(model, name)
        kept = set()
        for group in part.groups:
            moved = _renamed(group, name)
            shared = sorted({m.tensor for m in moved.members} & outside)
            if shared:
                reason = f"{shared[0]} is a tensor of another part of the network, too"
                left.append(LeftWhole(moved.name, "tied", reason))
            else:
                kept.add(group.name)
                groups.append(moved)
        positions += [
            replace(
                p, name=f"{name}.{p.name}", tensor=f"{name}.{p.tensor}", group=f"{name}.{p.group}"
            )
            for p in part.positions
            if p.group in kept
        ]
        left += [replace(entry, where=_path(name, entry.where)) for entry in part.left_whole]
        attributes += [
            replace(a, module=_path(name, a.module), per_unit=_renamed_counts(a, name))
            for a in part.attributes
            if all(group in kept for group, _ in a.per_unit)
        ]
    return SizedStructure(
        tuple(groups), tuple(positions), tuple(left), shapes, attributes=tuple(attributes)
    )


def _first_names_outside(model: nn.Module, name: str) -> set[str]:
    """The names that tensors of a part have, if other parts of the network own them as well."""
    owners: dict[str, set[bool]] = {}
    for path, first in first_names(model).items():
        owners.setdefault(first, set()).add(path.startswith(f"{name}."))
    both = {first for first, sides in owners.items() if len(sides) > 1}
    return {path for path, first in first_names(model).items() if first in both}


def _renamed(group: Group, part: str) -> Group:
    members = tuple(replace(m, tensor=f"{part}.{m.tensor}") for m in group.members)
    return Group(f"{part}.{group.name}", group.units, members)


def _renamed_counts(attribute: Attribute, part: str) -> tuple[tuple[str, int], ...]:
    return tuple((f"{part}.{group}", count) for group, count in attribute.per_unit)


def _path(part: str, inside: str) -> str:
    return part if inside in ("", "forward") else f"{part}.{inside}"
