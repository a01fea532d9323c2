"""The variational twin: a network of variational layers, its scales, and how both shrink.

     network (the user's class, layers replaced) ◀── scales, one per group and position axis
            │ forward: one draw of each scale, seen by all its readers
            ├── kl_nats, removability, posterior
            ├── shrink_: units and positions leave parameters, scales and structure together
            └── plain: the small ordinary network of the posterior mean
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from epigram.convert.gathered import GatheredLinear, variational_readers
from epigram.convert.posterior import TensorPosterior, posterior_of
from epigram.errors import ConfigError
from epigram.layers import ScaleUse, VariationalLayer, shared_draws, to_plain, total_kl_nats
from epigram.priors import GroupScale
from epigram.records import BoolArray, Group, IntArray, PositionAxis, Structure
from epigram.structure import rebase, slice_plan


@dataclass(frozen=True, eq=False)
class Cut:
    """A parameter that became smaller: which entries of which axis stayed (for optimiser state)."""

    parameter: nn.Parameter
    axis: int
    index: Tensor


class Twin(nn.Module):
    """The variational counterpart of a network; ``bayesianize`` builds it.

    ``train()`` samples activations; ``eval()`` is the posterior mean, deterministic. Scales carry the
    names of their groups (``conv1``) or position axes; masks and counts use the same names, in the
    coordinates of what is left unless they say *dense*.

    Args:
        network: the user's network with its layers replaced.
        structure: what is coupled in the plain network.
        scales: one scale per group and per position axis, by name.
    """

    def __init__(
        self, network: nn.Module, structure: Structure, scales: Mapping[str, GroupScale]
    ) -> None:
        super().__init__()
        self.network = network
        self.names = tuple(scales)
        self.scales = nn.ModuleList(scales.values())
        self.structure = structure
        self.dense_structure = structure
        self._dense: dict[str, tuple[int, IntArray]] = {
            name: (scale.units, np.arange(scale.units)) for name, scale in scales.items()
        }
        self._dense_positions = {
            position_key(axis): axis for axis in structure.positions
        }
        attach_scales_(self)

    def scale(self, name: str) -> GroupScale:
        """The scale of a group or position axis.

        Raises:
            KeyError: there is none of that name.
        """
        if name not in self.names:
            raise KeyError(f"no scale {name!r}; scales are {list(self.names)}")
        found = self.scales[self.names.index(name)]
        assert isinstance(found, GroupScale)
        return found

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The network's output; each scale is drawn once per example and shared by its readers."""
        first = next((a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)), None)
        if first is None or first.dim() == 0:
            return self.network(*args, **kwargs)
        with shared_draws(list(self.scales), first.shape[0]):  # type: ignore[arg-type]
            return self.network(*args, **kwargs)

    def kl_nats(self) -> Float[Tensor, ""]:
        """KL(q‖p) of all weights, biases and scales, each scale once; a sum in nats."""
        return total_kl_nats(self)

    @torch.no_grad()
    def clamp_(self) -> None:
        """Put every log-variance back within its bounds."""
        for module in self.modules():
            if isinstance(module, VariationalLayer | GroupScale):
                module.clamp_()

    @torch.no_grad()
    def removability(self) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
        """Per scale, how clearly each of its units is noise."""
        return {name: self.scale(name).removability().double().cpu().numpy() for name in self.names}

    def units_kept(self) -> dict[str, tuple[int, int]]:
        """Per scale: units left, units at the start."""
        return {name: (len(index), size) for name, (size, index) in self._dense.items()}

    def kept_masks(self) -> dict[str, BoolArray]:
        """Per scale, which units are left, in dense coordinates."""
        masks = {}
        for name, (size, index) in self._dense.items():
            masks[name] = np.zeros(size, bool)
            masks[name][index] = True
        return masks

    def effective_parameters(self) -> int:
        """Weights and biases that are left; dead positions do not count."""
        count = 0
        for name, parameter in self.network.named_parameters():
            if not name.endswith("logvar"):
                count += parameter.numel()
        return count

    def named_roles(self) -> dict[str, str]:
        """Parameter name -> ``mean``, ``logvar`` or ``scale``: what sets its step size."""
        roles = {}
        for name, _ in self.named_parameters():
            if name.startswith("scales."):
                roles[name] = "scale"
            else:
                roles[name] = "logvar" if name.endswith("_logvar") else "mean"
        return roles

    def shrink_(self, keep: Mapping[str, BoolArray]) -> list[Cut]:
        """Remove units and positions for good: parameters, scales and structure shrink together.

        Parameters keep their identity, so an optimiser's state can be cut with the returned list.

        Args:
            keep: per scale, which of the units it has *now* stay; absent = all. Positions of a
                removed unit go with it.

        Raises:
            ConfigError: an unknown name, a mask of the wrong length, or a scale left empty.
        """
        keep = self._checked(keep)
        groups = {g.name: keep[g.name] for g in self.structure.groups if g.name in keep}
        cuts = self._cut_tensors(slice_plan(self.structure, groups))
        self._dense = {
            name: (size, index[keep[name]]) for name, (size, index) in self._dense.items()
        }
        self.structure = rebase(self.structure, groups)
        cuts += self._cut_positions(keep)
        for name in self.names:
            cuts += self._cut_scale(self.scale(name), keep[name])
        attach_scales_(self)
        return cuts

    def plain(self) -> nn.Module:
        """The ordinary network of the posterior mean, scales folded in; the twin is not changed."""
        network = copy.deepcopy(self.network)
        for name, module in list(network.named_modules()):
            if isinstance(module, GatheredLinear):
                network = replaced(network, name, module.plain())
        for name, module in list(network.named_modules()):
            if isinstance(module, VariationalLayer):
                network = replaced(network, name, to_plain(module))
        return network

    def posterior(self) -> dict[str, TensorPosterior]:
        """Mean and spread of every variational tensor, under the plain network's names."""
        return posterior_of(self.network)

    def live_positions(self) -> dict[str, BoolArray]:
        """Tensor name -> which of its input positions are read, where some are not."""
        live = {}
        for name, module in self.network.named_modules():
            if isinstance(module, GatheredLinear) and module.index.numel() < module.inputs:
                mask = np.zeros(module.inputs, bool)
                mask[module.index.cpu().numpy()] = True
                live[f"{name}.weight" if name else "weight"] = mask
        return live

    def position_owners(self, key: str) -> IntArray:
        """For each position that is left on an axis, its unit among those left in its group.

        Raises:
            KeyError: no position axis of that name belongs to a group.
        """
        axis = self._dense_positions.get(key)
        if axis is None or axis.group is None or axis.index is None:
            raise KeyError(f"{key!r} is no position axis with owners")
        units = self._dense[axis.group][1]
        return np.searchsorted(units, axis.index[self._dense[key][1]])

    # --- shrinking, step by step ---------------------------------------------------------------

    def _checked(self, keep: Mapping[str, BoolArray]) -> dict[str, BoolArray]:
        checked = {}
        for name in keep:
            self.scale(name)
        for name, (_, index) in self._dense.items():
            mask = np.asarray(keep.get(name, np.ones(len(index), bool)), bool)
            if mask.shape != index.shape:
                raise ConfigError(
                    f"shrink_: {name} has {len(index)} units, got a mask of shape {mask.shape}"
                )
            checked[name] = mask
        for axis in self.structure.positions:
            key = position_key(axis)
            if axis.group in checked and key in checked:
                assert axis.group is not None
                checked[key] = checked[key] & checked[axis.group][self.position_owners(key)]
        for name, mask in checked.items():
            if mask.size and not mask.any():
                raise ConfigError(
                    f"shrink_: all {mask.size} units of {name} would go; keep at least one"
                )
        return checked

    def _cut_tensors(self, plan: Mapping[str, Mapping[int, IntArray]]) -> list[Cut]:
        cuts = []
        for tensor, axes in plan.items():
            path, _, leaf = tensor.rpartition(".")
            module = self.network.get_submodule(path)
            for axis, kept in axes.items():
                index = torch.from_numpy(np.ascontiguousarray(kept))
                if isinstance(module, GatheredLinear):
                    if leaf == "weight" and axis == module.layer.input_axis:
                        module.inputs = len(kept)
                        continue
                    cuts += cut_leaf_(module.layer, leaf, axis, index)
                else:
                    cuts += cut_leaf_(module, leaf, axis, index)
            fit_attributes_(module)
        return cuts

    def _cut_positions(self, keep: Mapping[str, BoolArray]) -> list[Cut]:
        cuts = []
        for axis in self.structure.positions:
            module = self.network.get_submodule(axis.tensor.rpartition(".")[0])
            key = position_key(axis)
            if key not in self._dense or not isinstance(module, GatheredLinear):
                continue
            index = torch.from_numpy(np.flatnonzero(keep[key]))
            cuts += cut_leaf_(module.layer, "weight", module.layer.input_axis, index)
            columns = self._plain_columns(key)
            places = np.searchsorted(columns, self._dense[key][1])
            module.index = torch.from_numpy(places).to(module.index.device)
        return cuts

    def _plain_columns(self, key: str) -> IntArray:
        """Dense positions that the plain reader still has as columns, ascending."""
        dense = self._dense_positions[key]
        if dense.group is None or dense.index is None:
            return np.arange(dense.size)
        size, units = self._dense[dense.group]
        kept = np.zeros(size, bool)
        kept[units] = True
        return np.flatnonzero(kept[dense.index])

    def _cut_scale(self, scale: GroupScale, keep: BoolArray) -> list[Cut]:
        if keep.all():
            return []
        index = torch.from_numpy(np.flatnonzero(keep))
        cuts = [
            Cut(scale.get_parameter(name), axis, index)
            for name, axis in scale.unit_parameters().items()
        ]
        scale.keep_(index)
        return cuts


def position_key(axis: PositionAxis) -> str:
    """The name under which a position axis's scale is known."""
    return f"{axis.name}.positions"


def attach_scales_(twin: Twin) -> None:
    """Tell every reader which scales act on which of its inputs, from the twin's structure."""
    uses: dict[str, list[ScaleUse]] = {}
    for group in twin.structure.groups:
        if group.name in twin.names:
            for path, index in _readers(twin.network, group):
                uses.setdefault(path, []).append(ScaleUse(twin.scale(group.name), index))
    for axis in twin.structure.positions:
        key = position_key(axis)
        if key in twin.names:
            path = axis.tensor.rpartition(".")[0]
            uses.setdefault(path, []).append(ScaleUse(twin.scale(key)))
    for path, layer, _ in variational_readers(twin.network):
        layer.scale_uses = uses.get(path, [])


def _readers(network: nn.Module, group: Group) -> list[tuple[str, Tensor | None]]:
    """(module path, unit of each input) of the variational layers that read a group."""
    found: list[tuple[str, Tensor | None]] = []
    for member in group.members:
        path, _, leaf = member.tensor.rpartition(".")
        module = network.get_submodule(path)
        gathered = isinstance(module, GatheredLinear)
        layer = module.layer if isinstance(module, GatheredLinear) else module
        if member.role != "reads" or not isinstance(layer, VariationalLayer) or leaf != "weight":
            continue
        inputs = module.inputs if gathered else layer.weight_mean.shape[layer.input_axis]
        unit_of = np.full(int(inputs), -1)
        unit_of[member.index] = np.arange(group.units)[:, None]
        if isinstance(module, GatheredLinear):
            unit_of = unit_of[module.index.cpu().numpy()]
        repeats = int(getattr(layer, "groups", 1)) if layer.input_axis == 1 else 1
        unit_of = np.tile(unit_of, repeats)
        plain_order = len(unit_of) == group.units and bool((unit_of == np.arange(group.units)).all())
        found.append((path, None if plain_order else torch.from_numpy(unit_of)))
    return found


def replaced(root: nn.Module, name: str, new: nn.Module) -> nn.Module:
    """``root`` with the submodule ``name`` replaced in place (``new`` itself where name is '')."""
    if not name:
        return new
    path, _, leaf = name.rpartition(".")
    setattr(root.get_submodule(path), leaf, new)
    return root


def cut_leaf_(module: nn.Module, leaf: str, axis: int, index: Tensor) -> list[Cut]:
    """Keep ``index`` of one tensor of a module: of its mean and log-variance where it is a twin's."""
    cuts = []
    names = (f"{leaf}_mean", f"{leaf}_logvar") if isinstance(module, VariationalLayer) else (leaf,)
    for name in names:
        tensor = getattr(module, name)
        if tensor is None or tensor.shape[axis] == len(index):
            continue
        tensor.grad = None
        tensor.data = tensor.data.index_select(axis, index.to(tensor.device))
        if isinstance(tensor, nn.Parameter):
            cuts.append(Cut(tensor, axis, index))
    return cuts


def fit_attributes_(module: nn.Module) -> None:
    """Sizes that modules keep beside their tensors, after these were cut."""
    if isinstance(module, nn.modules.batchnorm._NormBase) and module.weight is not None:
        module.num_features = module.weight.shape[0]
    groups = getattr(module, "groups", 1)
    if isinstance(module, VariationalLayer) and isinstance(groups, int) and groups > 1:
        weight = module.weight_mean
        if weight.shape[module.input_axis] == 1 and module.input_axis == 1:
            module.groups = weight.shape[0]
