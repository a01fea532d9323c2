"""What a network does in train mode only: units that it cannot do without there stay.

The trace follows eval mode, where ``if self.training: return y, self.aux(a)`` does not happen. Where the
network's own code calls other functions in train mode, the graph of train mode is followed beside that of eval mode
(:class:`epigram.structure.propagate.Propagation`), and removals are tried in train mode, too: outputs and
buffers have to be those of the masked network, nothing being left to chance.
"""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from epigram.errors import UnsupportedModelError
from epigram.records import LeftWhole
from epigram.structure.chance import HIGH, LOW, WithoutChance, calm_layers_
from epigram.structure.copying import copied, fresh
from epigram.structure.general import for_trials, hollow, without_values
from epigram.structure.modes import acts_alike
from epigram.structure.obstacle import Obstacle, from_error
from epigram.structure.patterns import patterns
from epigram.structure.plan import slice_plan
from epigram.structure.removals import masked, shrunk
from epigram.structure.surgery import sliced
from epigram.structure.trace import trace
from epigram.structure.trial import restricted
from epigram.structure.verify import compare

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from epigram.records import BoolArray, Group, IntArray
    from epigram.structure.grouping import SizedStructure
    from epigram.structure.plan import Plan
    from epigram.structure.trace import Traced

_TRIALS = 4
_SEED = 20170224


def differs(model: nn.Module, inputs: tuple[Any, ...]) -> bool:
    """Does the network do other things in train mode than in eval mode, torch's own layers excepted?

    False where it does not run in train mode as it is (it asks for targets, say): then nothing is known.
    """
    empty = hollow(model, inputs)
    ways = [] if empty is None else [(empty, without_values(inputs))]
    with contextlib.suppress(UnsupportedModelError):
        ways.append((copied(model), inputs))
    for network, example in ways:
        for given in _variants(example):
            alike = acts_alike(network, given)
            if alike is not None:
                return not alike
    return False


def trace_in_training(model: nn.Module, inputs: tuple[Any, ...]) -> Traced | None:
    """The graph of train mode; None where it cannot be followed.

    The inputs are varied until the network takes them.
    """
    for given in _variants(inputs):
        with contextlib.suppress(UnsupportedModelError):
            return trace(model, given, training=True)
    return None


def keep_what_training_needs(
    structure: SizedStructure, model: nn.Module, inputs: tuple[Any, ...]
) -> SizedStructure:
    """The structure without the groups whose removal does not work in train mode.

    Where the network runs in that mode (:func:`differs` says so), but no copy for trials does, all stay.
    """
    removable = [group for group in structure.groups if group.units > 1]
    if not removable:
        return structure
    trial = _InTraining(structure, model, inputs)
    refused = trial.refused([], removable)[1]
    left = tuple(
        LeftWhole(name, "forward", f"in train() the smaller network does not work ({o.reason})")
        for name, o in refused.items()
    )
    names = {group.name for group in structure.groups} - set(refused)
    return restricted(structure, names, left, structure.attributes)


class _InTraining:
    """Removals from a copy in train mode; ``failure``: what is in the way of running it at all."""

    def __init__(
        self, structure: SizedStructure, model: nn.Module, inputs: tuple[Any, ...]
    ) -> None:
        subject = for_trials(model, inputs)
        self.structure, self.network, self.inputs = structure, subject.network, subject.inputs
        self.network.train()
        calm_layers_(self.network)
        self.failure = self._fit_inputs()
        if self.failure is not None:
            dtype = next(model.parameters()).dtype  # training may make tensors of single precision
            self.network.to(dtype)
            self.inputs = pytree.tree_map(lambda x: _as_float(x, dtype), subject.inputs)
            self.failure = self._fit_inputs()

    def _fit_inputs(self) -> Obstacle | None:
        """Take those inputs that the network runs with; what the first ones met if there are none."""
        failure: Obstacle | None = None
        for given in _variants(self.inputs):
            try:
                self.inputs = given
                self._outcome()
            except Exception as error:  # noqa: BLE001 - forward is the user's, it may raise anything
                failure = failure or from_error(error)
            else:
                return None
        return failure

    def refused(
        self, base: list[Group], candidates: list[Group]
    ) -> tuple[list[Group], dict[str, Obstacle]]:
        """The base with as many candidates as can go with it, and what is in the way of the others."""
        obstacle = self._obstacle(base + candidates)
        if obstacle is None:
            return base + candidates, {}
        if len(candidates) == 1:
            return base, {candidates[0].name: obstacle}
        half = len(candidates) // 2
        base, refused = self.refused(base, candidates[:half])
        base, more = self.refused(base, candidates[half:])
        return base, refused | more

    def _obstacle(self, groups: list[Group]) -> Obstacle | None:
        if self.failure is not None:
            return self.failure
        for _, keep in zip(range(_TRIALS), patterns(list(groups)), strict=False):
            obstacle = self._try(keep)
            if obstacle is not None:
                return obstacle
        return None

    def _try(self, keep: dict[str, BoolArray]) -> Obstacle | None:
        plan = slice_plan(self.structure, keep)
        try:
            with shrunk(self.network, plan):
                small = self._outcome()
            with masked(self.network, self.structure, keep):
                whole = self._outcome(plan)
        except Exception as error:  # noqa: BLE001 - forward is the user's, it may raise anything
            return from_error(error)
        difference, allowed, reason = compare(small, whole)
        if reason:
            return Obstacle("", reason)
        if not difference <= allowed:
            reason = f"what it puts out or keeps in buffers differs by {difference:.3g}"
            return Obstacle("", reason, "values")
        return None

    def _outcome(self, plan: Plan | None = None) -> list[Tensor]:
        """What the network puts out, and its buffers afterwards, cut by the plan; buffers are put back.

        Twice where it draws: a branch that chance leaves out is there in one of them.
        """
        found, drew = self._drawing(LOW, plan)
        return found + self._drawing(HIGH, plan)[0] if drew else found

    def _drawing(self, number: float, plan: Plan | None) -> tuple[list[Tensor], bool]:
        """The outcome where this number is all that is drawn; was any drawn?"""
        with (
            _buffers_kept(self.network),
            torch.no_grad(),
            torch.random.fork_rng(devices=[]),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            torch.manual_seed(_SEED)
            with WithoutChance(number) as chance:
                leaves = pytree.tree_leaves(self.network(*fresh(self.inputs)))
            outputs = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
            buffers = {name: t.clone() for name, t in self.network.named_buffers()}
        cuts: Mapping[str, Mapping[int, IntArray]] = plan or {}
        kept = [sliced(value, cuts.get(name, {})) for name, value in buffers.items()]
        return outputs + kept, chance.drew


@contextlib.contextmanager
def _buffers_kept(network: nn.Module) -> Iterator[None]:
    """Whatever a forward pass does to buffers is undone."""
    before = [(m._buffers, dict(m._buffers)) for m in network.modules()]  # noqa: SLF001 - to assign to
    values = [(t, t.data.clone()) for t in network.buffers()]
    try:
        yield
    finally:
        for buffers, own in before:
            buffers.clear()
            buffers.update(own)
        for tensor, value in values:
            tensor.data = value


def _variants(inputs: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """The inputs; twice as many examples; maps twice, four times as wide.

    Statistics of a batch may take two examples, an auxiliary head a larger map.
    """
    yield inputs
    for change in (_twice, _as_wide_again, _as_wide_again):
        inputs = pytree.tree_map(change, inputs)
        yield inputs


def _twice(value: Any) -> Any:
    batch = isinstance(value, torch.Tensor) and value.dim()
    return torch.cat([value, value.flip(-1)]) if batch else value


def _as_wide_again(value: Any) -> Any:
    if not isinstance(value, torch.Tensor) or value.dim() < 4:
        return value
    for axis in range(2, value.dim()):
        value = torch.cat([value, value], axis)
    return value


def _as_float(value: Any, dtype: torch.dtype) -> Any:
    floating = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value.to(dtype) if floating else value
