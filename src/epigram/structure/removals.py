"""One removal after another from the same network, judged and undone.

The network of full size, the masked one and the smaller one are the same object by turns: copying it for every
removal would be slow.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from epigram.structure.copying import fresh
from epigram.structure.fit import fit_modules_, set_attributes_
from epigram.structure.general import without_values
from epigram.structure.obstacle import Obstacle, from_error
from epigram.structure.patterns import patterns
from epigram.structure.plan import slice_plan
from epigram.structure.softmax import with_a_silent_place
from epigram.structure.surgery import mask_units_, shrink_parameters_
from epigram.structure.trace import evaluating, named_tensors
from epigram.structure.verify import compare, other_shapes, outputs_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn

    from epigram.records import Attribute, BoolArray, Group, Structure
    from epigram.structure.general import Subject
    from epigram.structure.plan import Plan

Judge: TypeAlias = Literal["shapes", "values", "both"]


class Removals:
    """Removals of groups from one network.

    Args:
        structure: what its groups are.
        subject: the network, its inputs, and a hollow network that knows shapes only, if there is one.
    """

    def __init__(self, structure: Structure, subject: Subject) -> None:
        self.structure, self.network, self.inputs = structure, subject.network, subject.inputs
        self.empty, self._blind = subject.empty, subject.blind
        if self.empty is not None:
            self._without_values = without_values(self.inputs)
            self._usual = outputs_of(self.empty, self._without_values)

    def obstacle(
        self, groups: Sequence[Group], following: Sequence[Attribute], *, count: int, judge: Judge
    ) -> Obstacle | None:
        """What is in the way of removing units of all of these; None = nothing.

        Args:
            groups: which lose units.
            following: the numbers of modules that follow.
            count: how many removals, at most.
            judge: what is compared; shapes are only where there is a hollow network.
        """
        for keep in islice(patterns(list(groups)), count):
            obstacle = self.attempt(keep, following, judge)
            if obstacle is not None:
                return obstacle
        return None

    def attempt(
        self, keep: dict[str, BoolArray], following: Sequence[Attribute], judge: Judge
    ) -> Obstacle | None:
        """What is in the way of this very removal; arguments as above."""
        plan = slice_plan(replace(self.structure, attributes=tuple(following)), keep)
        obstacle = None if judge == "values" else self._try_shapes(plan)
        if obstacle is not None or judge == "shapes":
            return obstacle
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                with shrunk(self.network, plan):
                    small = self._outputs()
                with masked(self.network, self.structure, keep):
                    whole = self._outputs()
        except Exception as error:  # noqa: BLE001 - forward is the user's, it may raise anything
            return from_error(error)
        difference, allowed, reason = compare(small, whole)
        if reason:
            return Obstacle("", reason, "values" if math.isnan(difference) else "sizes")
        if not difference <= allowed:
            reason = f"the smaller network's output differs by {difference:.3g}"
            return Obstacle("", reason, "values")
        warning = self._new_warning(caught) if caught else ""
        return Obstacle("", warning, "warning") if warning else None

    def is_heard(self, group: Group) -> bool:
        """Does the network put out anything else where all units but one are masked?"""
        keep = {group.name: np.arange(group.units) == 0}
        usual = self._outputs()
        with masked(self.network, self.structure, keep):
            difference, allowed, reason = compare(self._outputs(), usual)
        return bool(reason) or not difference <= allowed

    def _outputs(self) -> list[Tensor]:
        """What the network puts out as it is now, with nothing of its attention hidden."""
        with with_a_silent_place() if self._blind else contextlib.nullcontext():
            return outputs_of(self.network, self.inputs)

    def _try_shapes(self, plan: Plan) -> Obstacle | None:
        """What the hollow network, where there is one, says about the smaller network's shapes."""
        if self.empty is None:
            return None
        try:
            with warnings.catch_warnings(), shrunk(self.empty, plan):
                warnings.simplefilter("ignore")
                small = outputs_of(self.empty, self._without_values)
        except Exception as error:  # noqa: BLE001 - forward is the user's, it may raise anything
            return from_error(error)
        reason = other_shapes(small, self._usual)
        return Obstacle("", reason) if reason else None

    def _new_warning(self, caught: list[warnings.WarningMessage]) -> str:
        """A warning that the network of full size does not give."""
        with evaluating(self.network), warnings.catch_warnings(record=True) as usual:
            warnings.simplefilter("always")
            self.network(*fresh(self.inputs))
        known = {str(warning.message) for warning in usual}
        new = [str(warning.message) for warning in caught if str(warning.message) not in known]
        return f"the smaller network warns: {new[0]}" if new else ""


@contextlib.contextmanager
def masked(network: nn.Module, structure: Structure, keep: dict[str, BoolArray]) -> Iterator[None]:
    """The network with nobody reading the dropped units, for a while."""
    tensors = named_tensors(network)
    silenced = ("reads", "consumed")
    reading = {m.tensor for g in structure.groups for m in g.members if m.role in silenced}
    before = {name: tensors[name].data for name in reading if name in tensors}
    try:
        for name, data in before.items():
            tensors[name].data = data.clone()
        mask_units_(network, structure, keep)
        yield
    finally:
        for name, data in before.items():
            tensors[name].data = data


@contextlib.contextmanager
def shrunk(network: nn.Module, plan: Plan) -> Iterator[None]:
    """The network without the units, for a while."""
    tensors = named_tensors(network)
    data = {name: tensors[name].data for name in plan}
    modules = [(module, module.__class__, dict(vars(module))) for module in network.modules()]
    try:
        shrink_parameters_(tensors, plan)
        fit_modules_(network, [tensors[name] for name in plan])
        set_attributes_(network, plan.attributes)
        yield
    finally:
        for module, own, before in modules:
            module.__class__ = own
            module.__dict__.clear()
            module.__dict__.update(before)
        for name, whole in data.items():
            tensors[name].data = whole
