"""From an ordinary network to its twin."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TypeAlias

import torch
from torch import Tensor, nn

from epigram.convert.gathered import GatheredReader, with_replaced
from epigram.convert.kept import position_key
from epigram.convert.settings import PosteriorSettings, PriorName
from epigram.convert.twin import Twin
from epigram.errors import UnsupportedModelError
from epigram.layers import TWINS, from_plain
from epigram.priors import GroupScale
from epigram.records import Structure
from epigram.structure import analyse

Ignored: TypeAlias = Sequence[str | nn.Module | type[nn.Module] | Callable[[nn.Module], bool]]


def bayesianize(
    model: nn.Module,
    example_inputs: Tensor | tuple[Tensor, ...],
    prior: PriorName | None = None,
    *,
    settings: PosteriorSettings | None = None,
    ignored_layers: Ignored = (),
) -> Twin:
    """The variational twin of a network, its weights kept: in ``eval()`` it computes the same.

    Args:
        model: an ordinary network; it is not changed.
        example_inputs: what it is called with, a batch of at least one example.
        prior: overrides ``settings.prior``.
        settings: prior, start and bounds of the posterior.
        ignored_layers: layers that stay deterministic: modules, names, globs, types or predicates.

    Raises:
        UnsupportedModelError: nothing in the network can be made variational, or it cannot be traced.

    Example:
        >>> net = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
        >>> twin = bayesianize(net, torch.ones(2, 8), prior="group-horseshoe")
        >>> twin.units_kept()
        {'0': (6, 6), '0.positions': (8, 8)}
    """
    settings = settings or PosteriorSettings()
    if prior is not None:
        settings = replace(settings, prior=prior)
    chosen = convertible_layers(model, ignored_layers)
    structure = analyse(model, example_inputs)
    network = copy.deepcopy(model)
    positions = _position_axes(structure, chosen) if settings.positions else {}
    new: dict[nn.Module, nn.Module] = {}
    for name in chosen:
        plain = network.get_submodule(name)
        layer = from_plain(
            plain,
            logvar_init=settings.logvar_init,
            logvar_min=settings.logvar_min,
            logvar_max=settings.logvar_max,
            variance_eps=settings.variance_eps,
        )
        new[plain] = layer
        if name in positions:
            inputs = layer.weight_mean.shape[layer.input_axis]
            index = torch.arange(inputs, device=layer.weight_mean.device)
            new[plain] = GatheredReader(layer, index, inputs)
    network = with_replaced(network, new)
    first = next(model.parameters())
    dtype = torch.float64 if first.dtype == torch.float64 else None
    twin = Twin(network, structure, _scales(structure, chosen, positions, settings, dtype))
    return twin.to(first.device).train(model.training)


def convertible_layers(model: nn.Module, ignored: Ignored = ()) -> list[str]:
    """The names of the layers that become variational.

    Raises:
        UnsupportedModelError: there are none, or some of them are tied to other layers.
    """
    chosen = [
        name
        for name, module in model.named_modules()
        if type(module) in TWINS and not any(_matches(name, module, rule) for rule in ignored)
    ]
    if not chosen:
        raise UnsupportedModelError(
            f"got a {type(model).__name__} without a layer to make variational; "
            f"expected at least one of {', '.join(sorted(k.__name__ for k in TWINS))} "
            "that is not ignored"
        )
    _refuse_half(model, chosen)
    _refuse_ties(model, chosen)
    return chosen


def _refuse_half(model: nn.Module, chosen: Sequence[str]) -> None:
    for name in chosen:
        dtype = next(model.get_submodule(name).parameters()).dtype
        if dtype == torch.bfloat16:
            raise UnsupportedModelError(
                f"{name}: its weights are {dtype}, expected 32-bit floats (or 64, or 16): "
                "a posterior's small steps are lost in 8 bits; convert the model with .float()"
            )


def _matches(
    name: str, module: nn.Module, rule: str | nn.Module | type[nn.Module] | Callable[..., bool]
) -> bool:
    if isinstance(rule, str):
        return fnmatchcase(name, rule)
    if isinstance(rule, type):
        return isinstance(module, rule)
    if isinstance(rule, nn.Module):
        return module is rule or any(child is module for child in rule.modules())
    return bool(rule(module))


def _refuse_ties(model: nn.Module, chosen: Sequence[str]) -> None:
    """A weight that two modules share would become two weights.

    Raises:
        UnsupportedModelError: a chosen layer shares a parameter with another module.
    """
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(name)
    for names in owners.values():
        if len(names) > 1 and set(names) & set(chosen):
            raise UnsupportedModelError(
                f"bayesianize: {' and '.join(names)} share a parameter, expected each variational "
                "layer to have its own; name them in ignored_layers"
            )


def _position_axes(structure: Structure, chosen: Sequence[str]) -> dict[str, str]:
    """Module -> its position axis, for the chosen layers that read positions along axis 1."""
    axes = {
        axis.tensor.rpartition(".")[0]: position_key(axis)
        for axis in structure.positions
        if axis.axis == 1
    }
    return {name: axes[name] for name in chosen if name in axes}


def _scales(
    structure: Structure,
    chosen: Sequence[str],
    positions: dict[str, str],
    settings: PosteriorSettings,
    dtype: torch.dtype | None,
) -> dict[str, GroupScale]:
    """One scale per group that a chosen layer reads, and per position axis."""
    scales = {}
    for group in structure.groups:
        readers = {m.tensor.rpartition(".")[0] for m in group.members if m.role == "reads"}
        if readers & set(chosen):
            scales[group.name] = settings.make_scale(group.units, dtype=dtype)
    for axis in structure.positions:
        if position_key(axis) in positions.values():
            scales[position_key(axis)] = settings.make_scale(axis.size, dtype=dtype)
    return scales
