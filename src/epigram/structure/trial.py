"""Trial removals: what labels promise is done to a network in general position and compared.

Labels do not see a literal in ``forward`` (``view(-1, 800)``, ``x[:, :16]``). So units of each group
are really removed from a copy whose weights are random, and the copy is run beside the masked one.
Two functions that agree there agree everywhere, up to accidents of measure zero. A group whose
removal raises, warns or changes a value is left whole, and the operation in its way is named.
"""

from __future__ import annotations

import traceback
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.modules.batchnorm import _NormBase

from epigram.records import Group, LeftWhole
from epigram.structure.plan import slice_plan
from epigram.structure.surgery import copied, mask_units, remove_units
from epigram.structure.trace import evaluating
from epigram.structure.verify import compare

if TYPE_CHECKING:
    from torch import Tensor, nn

    from epigram.records import BoolArray
    from epigram.structure.grouping import SizedStructure
    from epigram.structure.propagate import Movement, Propagation

_OURS = (str(Path(__file__).parent), str(Path(torch.__file__).parent))
_SEED = 20170224


@dataclass(frozen=True)
class _Obstacle:
    """Why a trial failed: the source line where it did, or "" if only values differ."""

    source: str
    reason: str


def keep_what_can_go(
    structure: SizedStructure, model: nn.Module, inputs: tuple[Any, ...], propagation: Propagation
) -> SizedStructure:
    """The structure without the groups whose removal does not work, each of them reported."""
    removable = [group for group in structure.groups if group.units > 1]
    if not removable:
        return structure
    network, inputs = _in_general_position(model, inputs)
    trial = _Trial(structure, network, inputs)
    accepted, refused = trial.accept([], removable)
    names = {group.name for group in structure.groups} - set(refused)
    left = tuple(
        _explain(structure.group(name), obstacle, propagation) for name, obstacle in refused.items()
    )
    return replace(
        structure,
        groups=tuple(group for group in structure.groups if group.name in names),
        positions=tuple(p for p in structure.positions if p.group is None or p.group in names),
        left_whole=structure.left_whole + left,
    )


class _Trial:
    def __init__(self, structure: SizedStructure, network: nn.Module, inputs: tuple[Any, ...]):
        self.structure, self.network, self.inputs = structure, network, inputs

    def accept(
        self, base: list[Group], candidates: list[Group]
    ) -> tuple[list[Group], dict[str, _Obstacle]]:
        """Add as many candidates to those accepted as can go with them, by halving."""
        obstacle = self._obstacle(base + candidates)
        if obstacle is None:
            return base + candidates, {}
        if len(candidates) == 1:
            return base, {candidates[0].name: obstacle}
        half = len(candidates) // 2
        base, refused = self.accept(base, candidates[:half])
        base, more = self.accept(base, candidates[half:])
        return base, refused | more

    def _obstacle(self, groups: list[Group]) -> _Obstacle | None:
        for keep in (_without_first(groups), _without_some(groups)):
            obstacle = self._try(keep)
            if obstacle is not None:
                return obstacle
        return None

    def _try(self, keep: dict[str, BoolArray]) -> _Obstacle | None:
        masked = mask_units(self.network, self.structure, keep)
        small = remove_units(self.network, slice_plan(self.structure, keep))
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                difference, allowed, reason = compare(small, masked, self.inputs)
        except Exception as error:
            return _from_error(error)
        if not reason and not difference <= allowed:
            reason = f"the smaller network's output differs by {difference:.3g}"
        if not reason and caught:
            reason = self._new_warning(caught)
        return _Obstacle("", reason) if reason else None

    def _new_warning(self, caught: list[warnings.WarningMessage]) -> str:
        """A warning that the network of full size does not give."""
        with evaluating(self.network), warnings.catch_warnings(record=True) as usual:
            warnings.simplefilter("always")
            self.network(*self.inputs)
        known = {str(warning.message) for warning in usual}
        new = [str(warning.message) for warning in caught if str(warning.message) not in known]
        return f"the smaller network warns: {new[0]}" if new else ""


def _without_first(groups: list[Group]) -> dict[str, BoolArray]:
    return {group.name: np.arange(group.units) > 0 for group in groups}


def _without_some(groups: list[Group]) -> dict[str, BoolArray]:
    """About a third of the units at random, at least one of them and not all."""
    random = np.random.default_rng(_SEED)
    keep = {}
    for group in groups:
        dropped = random.permutation(group.units)[: max(1, group.units // 3)]
        keep[group.name] = ~np.isin(np.arange(group.units), dropped)
    return keep


def _in_general_position(
    model: nn.Module, inputs: tuple[Any, ...]
) -> tuple[nn.Module, tuple[Any, ...]]:
    """A copy with random weights and inputs, in double precision where the model allows it."""
    generator = torch.Generator().manual_seed(_SEED)
    network = copied(model)
    for module in network.modules():
        _randomise_(module, generator)
    drawn = tuple(_random_like(x, generator) for x in inputs)
    double = copied(network).double()
    for candidate, given in (
        (double, _doubled(drawn)),
        (double, _doubled(inputs)),
        (network, drawn),
    ):
        if _runs(candidate, given):
            return candidate, given
    return network, inputs


def _randomise_(module: nn.Module, generator: torch.Generator) -> None:
    for name, parameter in module.named_parameters(recurse=False):
        if not parameter.is_floating_point():
            continue
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() > 1:
            values = noise * (2.0 / max(1, parameter[0].numel())) ** 0.5
        else:
            values = 0.3 * noise + (1.0 if name == "weight" else 0.0)
        parameter.data.copy_(values)
    if isinstance(module, _NormBase) and module.running_mean is not None:
        module.running_mean.copy_(0.3 * torch.randn(module.running_mean.shape, generator=generator))
        if module.running_var is not None:
            spread = torch.rand(module.running_var.shape, generator=generator)
            module.running_var.copy_(0.5 + spread)


def _random_like(value: Any, generator: torch.Generator) -> Any:
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return value
    return torch.randn(value.shape, generator=generator).to(value)


def _doubled(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    def double(value: Any) -> Any:
        floating = isinstance(value, torch.Tensor) and value.is_floating_point()
        return value.double() if floating else value

    return tuple(double(value) for value in inputs)


def _runs(network: nn.Module, inputs: tuple[Any, ...]) -> bool:
    try:
        with evaluating(network), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            leaves = torch.utils._pytree.tree_leaves(network(*inputs))
    except Exception:
        return False
    tensors: list[Tensor] = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def _from_error(error: Exception) -> _Obstacle:
    frames = traceback.extract_tb(error.__traceback__)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = lines[0] if lines else type(error).__name__
    users = [frame for frame in frames if not frame.filename.startswith(_OURS)]
    source = (users[-1].line or "") if users else ""
    written = f"forward says `{source}`: " if source else ""
    return _Obstacle(source, f"{written}{message}")


def _explain(group: Group, obstacle: _Obstacle, propagation: Propagation) -> LeftWhole:
    through = _movements_of(group, propagation)
    at_fault = [m for m in through if obstacle.source and m.source == obstacle.source] or through
    operation = at_fault[-1].operation if at_fault else "forward"
    return LeftWhole(
        group.name,
        operation,
        f"removing its units from a copy does not work ({obstacle.reason}); "
        "sizes written as numbers in forward are the usual cause: use x.flatten(1) or x.size(1)",
    )


def _movements_of(group: Group, propagation: Propagation) -> list[Movement]:
    """The data movements that the group's units went through."""
    space = propagation.space
    tensors = {(m.tensor, m.axis): m.index[:, 0] for m in group.members if m.role == "produces"}
    units = [
        space.roots(use.labels)[tensors[use.tensor, use.axis]]
        for use in propagation.uses
        if (use.tensor, use.axis) in tensors and use.role == "produces"
    ]
    if not units:
        return []
    return [
        m for m in propagation.movements if bool(np.isin(space.roots(m.labels), units[0]).any())
    ]
