"""Layers that a forward pass uses in training only: what they read stays, or training would fail.

The trace follows eval mode, where an auxiliary head (``if self.training: return y, self.aux(a)``) is not
called. Where the trace leaves parameters unused, removals are tried in training mode too, for shapes.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from epigram.records import LeftWhole
from epigram.structure.copying import fresh
from epigram.structure.general import hollow, without_values
from epigram.structure.patterns import patterns
from epigram.structure.plan import slice_plan
from epigram.structure.removals import shrunk
from epigram.structure.trace import first_names
from epigram.structure.trial import restricted

if TYPE_CHECKING:
    from torch import nn

    from epigram.records import Group
    from epigram.structure.grouping import SizedStructure
    from epigram.structure.trace import Traced

_NAMED = 4
"""As many modules are named in a reason, at most."""

_Shapes = list[tuple[int, ...]]


def keep_what_training_reads(
    structure: SizedStructure, model: nn.Module, traced: Traced
) -> SizedStructure:
    """The structure without the groups that layers read which the trace did not see.

    Where the network cannot run in training mode as it is (it asks for targets, say), nothing is known.
    """
    removable = [group for group in structure.groups if group.units > 1]
    idle = _unused(model, traced)
    if not idle or not removable:
        return structure
    network = hollow(model, traced.inputs)
    if network is None:
        return structure
    network.train()
    called: set[str] = set()
    for name, module in network.named_modules():
        if any(f"{name}.{own}" in idle for own in module._parameters):  # noqa: SLF001 - its own ones only
            module.register_forward_hook(lambda *_, name=name: called.add(name))
    trial = _InTraining(structure, network, without_values(traced.inputs))
    if not trial.runs or not called:
        return structure
    accepted = {group.name for group in trial.accepted([], removable)}
    refused = [group.name for group in removable if group.name not in accepted]
    reason = f"layers that are used in training only read it: {_outermost(network, called, idle)}"
    left = tuple(LeftWhole(name, "forward", reason) for name in refused)
    names = {group.name for group in structure.groups} - set(refused)
    return restricted(structure, names, left, structure.attributes)


class _InTraining:
    """Removals from a hollow network in training mode; ``runs``: it does as it is."""

    def __init__(
        self, structure: SizedStructure, network: nn.Module, inputs: tuple[Any, ...]
    ) -> None:
        self.structure, self.network, self.inputs = structure, network, inputs
        self.usual = self._shapes()
        for change in (_twice, _as_wide_again, _as_wide_again):
            if self.usual is None:
                self.inputs = pytree.tree_map(change, self.inputs)
                self.usual = self._shapes()
        self.runs = self.usual is not None

    def accepted(self, base: list[Group], candidates: list[Group]) -> list[Group]:
        """Those that can go: the base, and as many candidates as go with it."""
        if self._can_go(base + candidates):
            return base + candidates
        if len(candidates) == 1:
            return base
        half = len(candidates) // 2
        return self.accepted(self.accepted(base, candidates[:half]), candidates[half:])

    def _can_go(self, groups: list[Group]) -> bool:
        plan = slice_plan(self.structure, next(patterns(list(groups))))
        with shrunk(self.network, plan):
            return self._shapes() == self.usual

    def _shapes(self) -> _Shapes | None:
        """The shapes of what it puts out; None if it raises."""
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                leaves = pytree.tree_leaves(self.network(*fresh(self.inputs)))
        except Exception:  # noqa: BLE001 - forward is the user's, it may raise anything
            return None
        return [tuple(leaf.shape) for leaf in leaves if isinstance(leaf, torch.Tensor)]


def _unused(model: nn.Module, traced: Traced) -> set[str]:
    """The parameters of the model that the traced forward pass does not use, by all their names."""
    nodes = {node.name: node for node in traced.graph_module.graph.nodes}
    used = {name for place, name in traced.tensors.items() if nodes[place].users}
    first = first_names(model)
    parameters = (name for name, _ in model.named_parameters(remove_duplicate=False))
    return {name for name in parameters if first[name] not in used}


def _twice(value: Any) -> Any:
    """Statistics of a batch may take two examples."""
    return torch.cat([value, value]) if isinstance(value, torch.Tensor) and value.dim() else value


def _as_wide_again(value: Any) -> Any:
    """An auxiliary head may take a larger map; without values it costs nothing."""
    if not isinstance(value, torch.Tensor) or value.dim() < 4:
        return value
    sizes = [size if axis < 2 else 2 * size for axis, size in enumerate(value.shape)]
    return value.new_empty(sizes)


def _outermost(network: nn.Module, called: set[str], idle: set[str]) -> str:
    """The largest modules that consist of idle layers, some of which were called."""
    found: list[str] = []
    for name, module in network.named_modules():
        inside = any(name.startswith(f"{other}.") for other in found)
        own = [f"{name}.{key}" for key, _ in module.named_parameters()]
        heard = any(other == name or other.startswith(f"{name}.") for other in called)
        if name and own and heard and not inside and idle.issuperset(own):
            found.append(name)
    more = ", …" if len(found) > _NAMED else ""
    return ", ".join(found[:_NAMED]) + more
