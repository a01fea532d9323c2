"""The variational twin: a network of variational layers, its scales, and how both shrink.

network (the user's class, layers replaced) ◀── scales, one per group and position axis
       │ forward: one draw of each scale, seen by all its readers
       ├── kl_nats, removability, posterior
       ├── shrink_: units and positions leave parameters, scales and structure together
       └── plain: the small ordinary network of the posterior mean
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from epigram.convert.cutting import Cut, cut_positions_, cut_scale_, cut_units_
from epigram.convert.example_axes import examples_in
from epigram.convert.kept import Kept
from epigram.convert.posterior import TensorPosterior, posterior_of
from epigram.convert.readers import plain_counterparts, variational_readers, with_replaced
from epigram.convert.reading import attach_scales_
from epigram.errors import RemovalError
from epigram.layers import VariationalLayer, shared_draws, total_kl_nats
from epigram.priors import GroupScale
from epigram.records import BoolArray, IntArray, Structure
from epigram.structure import rebase, why_not_exact
from epigram.structure.copying import copied
from epigram.structure.transformers import without_fast_path


class Twin(nn.Module):
    """The variational counterpart of a network; ``bayesianize`` builds it.

    ``train()`` samples activations; ``eval()`` is the posterior mean, deterministic. Scales carry the
    names of their groups (``conv1``) or position axes; masks and counts use the same names, in the
    coordinates of what is left unless they say *dense*.

    Args:
        network: the user's network with its layers replaced.
        structure: what is coupled in the plain network.
        scales: one scale per group and per position axis, by name.
        deterministic: what stayed as it was, and why.
        unscaled: groups without a scale, and why.
        normalised: groups whose readers are all followed by a normalisation.
        example: what the network is called with, for cuts to be tried on; None = they are not.
        examples_at: which of the sizes in a call is the number of examples (``example_axes.sizes_in``).

    Attributes:
        structure: of the network as it is now.
        dense_structure: of the network as it was.
        deterministic: layer, or parameter that ``forward`` uses by itself -> why it has no posterior.
        unscaled: group -> why it has no scale and stays whole.
    """

    def __init__(
        self,
        network: nn.Module,
        structure: Structure,
        scales: Mapping[str, GroupScale],
        *,
        deterministic: Mapping[str, str] | None = None,
        unscaled: Mapping[str, str] | None = None,
        normalised: Collection[str] = (),
        example: tuple[Any, ...] | None = None,
        examples_at: int = 0,
    ) -> None:
        super().__init__()
        self.deterministic = dict(deterministic or {})
        self.unscaled = dict(unscaled or {})
        self._normalised = frozenset(normalised)
        self.example = example
        self._examples_at = examples_at
        self.network = network
        self.names = tuple(scales)
        self.scales = nn.ModuleList(scales.values())
        self.structure = structure
        self.dense_structure = structure
        self._kept = Kept(structure, {name: scale.units for name, scale in scales.items()})
        attach_scales_(network, structure, scales)

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
        examples = examples_in((*args, *kwargs.values()), self._examples_at)
        with without_fast_path():
            if examples is None:
                return self.network(*args, **kwargs)
            with shared_draws([self.scale(name) for name in self.names], examples):
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
        """Per scale, how clearly each of its units is noise.

        Where a normalisation behind every reader cancels a common factor of all scales, a prior that
        is not scale-free says nothing by the size of that factor: removability then counts from the
        group's least removable unit.
        """
        found = {}
        for name in self.names:
            values = self.scale(name).removability().double().cpu().numpy()
            if name in self._normalised and not self.scale(name).scale_free and values.size:
                values = values - values.min()
            found[name] = values
        return found

    def units_kept(self) -> dict[str, tuple[int, int]]:
        """Per scale: units left, units at the start."""
        return self._kept.counts()

    def kept_masks(self) -> dict[str, BoolArray]:
        """Per scale, which units are left, in dense coordinates."""
        return self._kept.masks()

    def effective_parameters(self) -> int:
        """Weights and biases that are left; dead positions do not count."""
        return sum(
            parameter.numel()
            for name, parameter in self.network.named_parameters()
            if not name.endswith("_logvar")
        )

    def named_roles(self) -> dict[str, str]:
        """Parameter name -> ``mean``, ``logvar`` or ``scale``: what sets its step size."""
        roles = {}
        for name, _ in self.named_parameters():
            if name.startswith("scales."):
                roles[name] = "scale"
            else:
                roles[name] = "logvar" if name.endswith("_logvar") else "mean"
        return roles

    def why_not(self, keep: Mapping[str, BoolArray]) -> str:
        """Why the network would not be the masked one without these units; "" if it would, on the example.

        A width that ``forward`` asks for (``if h.shape[1] == 37``) may be one that no trial has met.

        Raises:
            ConfigError: as :meth:`shrink_`.
        """
        groups = self._units_of_groups(self._kept.checked(keep))
        if self.example is None or all(mask.all() for mask in groups.values()):
            return ""
        device = next(self.parameters()).device
        example = pytree.tree_map_only(Tensor, lambda x: x.to(device), self.example)
        return why_not_exact(self.plain(), self.structure, groups, example)

    def shrink_(self, keep: Mapping[str, BoolArray], *, tried: bool = False) -> list[Cut]:
        """Remove units and positions for good: parameters, scales and structure shrink together.

        Parameters keep their identity, so an optimiser's state can be cut with the returned list.

        Args:
            keep: per scale, which of the units it has *now* stay; absent = all. Positions of a
                removed unit go with it.
            tried: it is known that the smaller network computes what the masked one does.

        Raises:
            ConfigError: an unknown name, a mask of the wrong length, or a scale left empty; nothing
                is changed then.
            RemovalError: the smaller network would compute something else (:meth:`why_not`); nothing
                is changed then.
        """
        checked = self._kept.checked(keep)
        groups = self._units_of_groups(checked)
        reason = "" if tried else self.why_not(keep)
        if reason:
            left = ", ".join(
                f"{n}: {m.sum()} of {m.size}" for n, m in groups.items() if not m.all()
            )
            raise RemovalError(
                f"shrink_: with these units left ({left}) the smaller network is not the masked one "
                f"({reason}), so nothing is removed; keep other numbers of units, or leave these groups whole"
            )
        cuts = cut_units_(self.network, self.structure, groups)
        self._kept.shrink(checked)
        self.structure = rebase(self.structure, groups)
        cuts += cut_positions_(self.network, self.structure, self._kept, checked)
        for name in self.names:
            cuts += cut_scale_(self.scale(name), checked[name])
        scales = {name: self.scale(name) for name in self.names}
        attach_scales_(self.network, self.structure, scales)
        return cuts

    def _units_of_groups(self, checked: Mapping[str, BoolArray]) -> dict[str, BoolArray]:
        return {g.name: checked[g.name] for g in self.structure.groups if g.name in checked}

    def plain(self) -> nn.Module:
        """The ordinary network of the posterior mean, scales folded in; the twin is not changed.

        Raises:
            UnsupportedModelError: what stays deterministic cannot be copied.
        """
        network = copied(self.network)
        return with_replaced(network, plain_counterparts(network))

    def posterior(self) -> dict[str, TensorPosterior]:
        """Mean and spread of every variational tensor, under the plain network's names."""
        return posterior_of(self.network)

    def live_positions(self) -> dict[str, BoolArray]:
        """Tensor name -> which of its inputs (axis 1) are read, where some are not."""
        live = {}
        for reader in variational_readers(self.network):
            gathered = reader.gathered
            if gathered is not None and gathered.index.numel() < gathered.inputs:
                mask = np.zeros(gathered.inputs, bool)
                mask[gathered.index.cpu().numpy()] = True
                live[reader.weight] = mask
        return live

    def position_owners(self, key: str) -> IntArray:
        """For each position that is left on an axis, its unit among those left in its group.

        Raises:
            KeyError: no position axis of that name belongs to a group that has a scale.
        """
        return self._kept.owners(key)
