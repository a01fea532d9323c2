"""From an ordinary network to its twin."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from epigram.convert.gathered import GatheredReader
from epigram.convert.kept import position_key
from epigram.convert.probe import Calls, kept_example, watched_calls
from epigram.convert.readers import variational_readers, with_replaced
from epigram.convert.reading import read_by
from epigram.convert.rules import Choice, Frozen, Ignored, choose
from epigram.convert.settings import PosteriorSettings, PriorName
from epigram.convert.twin import Twin
from epigram.layers import (
    NORMALISATION,
    VariationalMultiheadAttention,
    from_plain,
    variational_layers,
)
from epigram.priors import GroupScale
from epigram.records import Structure
from epigram.structure import OnFailure, analyse
from epigram.structure.copying import copied


def bayesianize(
    model: nn.Module,
    example_inputs: Tensor | tuple[Any, ...],
    prior: PriorName | None = None,
    *,
    settings: PosteriorSettings | None = None,
    ignored_layers: Ignored = (),
    frozen: Frozen = "deterministic",
    structure: Structure | None = None,
    on_failure: OnFailure | None = None,
) -> Twin:
    """The variational twin of a network, its weights kept: in ``eval()`` it computes the same.

    Each of its modules is in the mode of the network's (a frozen normalisation in ``eval()``), until
    ``train()`` or ``eval()`` of the twin sets all of them, as torch's do.

    Args:
        model: an ordinary network; it is not changed.
        example_inputs: what it is called with, a batch of at least one example.
        prior: overrides ``settings.prior``.
        settings: prior, start and bounds of the posterior.
        ignored_layers: layers that stay deterministic: modules, names, globs, types or predicates; of
            a module that holds others, all of them.
        frozen: what becomes of layers with a parameter that requires no gradient: they stay
            ``"deterministic"``, or only their means stay frozen (``"variational"``).
        structure: of this network, if it is known; None = it is analysed.
        on_failure: overrides ``settings.on_failure``; ``"leave"``: where the network cannot be followed,
            its twin keeps every unit, and ``twin.structure.left_whole`` says why.

    Raises:
        ConfigError: ``ignored_layers`` names a module that is not there.
        UnsupportedModelError: nothing in the network can be made variational, its weights are in
            half precision, complex, not finite or not there yet, it cannot be copied, it fails on the
            example, or it cannot be traced and ``on_failure`` is ``"raise"``.

    Example:
        >>> net = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
        >>> twin = bayesianize(net, torch.ones(2, 8), prior="group-horseshoe")
        >>> twin.units_kept()
        {'0': (6, 6), '0.positions': (8, 8)}
    """
    settings = settings or PosteriorSettings()
    if prior is not None:
        settings = replace(settings, prior=prior)
    if on_failure is not None:
        settings = replace(settings, on_failure=on_failure)
    inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    choice = choose(model, ignored_layers, frozen=frozen).checked(model)
    structure = structure or analyse(model, example_inputs, on_failure=settings.on_failure)
    calls = watched_calls(model, inputs, choice.variational)
    choice = choice.without(calls.stays).checked(model)
    positions = _position_axes(structure, choice, calls) if settings.positions else {}
    network = _converted(model, choice, positions, settings)
    _tell_example_axes_(network, calls)
    unscaled = _without_scale(structure, network, choice, calls)
    first = next(model.parameters())
    dtype = torch.float64 if first.dtype == torch.float64 else None
    scales: dict[str, GroupScale] = {
        group.name: settings.make_scale(group.units, dtype=dtype)
        for group in structure.groups
        if group.name not in unscaled
    }
    for axis in structure.positions:
        if position_key(axis) in positions.values():
            scales[position_key(axis)] = settings.make_scale(axis.size, dtype=dtype)
    twin = Twin(
        network,
        structure,
        scales,
        deterministic=choice.deterministic,
        unscaled=unscaled,
        normalised=_normalised(structure, choice),
        example=kept_example(model, inputs),
        examples_at=calls.examples_at,
    )
    _take_mode_(twin, model)
    return twin.to(first.device)


def convertible_layers(model: nn.Module, ignored: Ignored = ()) -> list[str]:
    """The names of the layers that may become variational, as far as can be said without a call.

    Raises:
        ConfigError: ``ignored`` names a module that is not there.
        UnsupportedModelError: there are none, or their weights are in half precision or on ``meta``.
    """
    return list(choose(model, ignored).checked(model).variational)


def _converted(
    model: nn.Module, choice: Choice, positions: Mapping[str, str], settings: PosteriorSettings
) -> nn.Module:
    """A copy of the network with the chosen layers replaced."""
    network = copied(model)
    start = {
        "logvar_init": settings.logvar_init,
        "logvar_min": settings.logvar_min,
        "logvar_max": settings.logvar_max,
        "variance_eps": settings.variance_eps,
        "variances": settings.variances,
    }
    new: dict[nn.Module, nn.Module] = {}
    for name in choice.variational:
        plain = network.get_submodule(name)
        if isinstance(plain, nn.MultiheadAttention):
            new[plain] = VariationalMultiheadAttention(plain, **start)
            continue
        layer = from_plain(plain, **start)  # type: ignore[arg-type]
        if layer.spatial_dims:
            layer.noise = settings.convolution_noise
        new[plain] = layer
        if name in positions:
            inputs = layer.weight_mean.shape[layer.input_axis]
            index = torch.arange(inputs, device=layer.weight_mean.device)
            new[plain] = GatheredReader(layer, index, inputs).train(layer.training)
    return with_replaced(network, new)


def _take_mode_(twin: Twin, model: nn.Module) -> None:
    """Put what only the twin has in the network's mode; what stands in for its modules has theirs."""
    twin.training = model.training
    twin.scales.train(model.training)


def _tell_example_axes_(network: nn.Module, calls: Calls) -> None:
    """Tell every variational layer which axis holds the examples; an attention's have the attention's."""
    for name, axis in calls.axes.items():
        for layer in variational_layers(network.get_submodule(name)):
            layer.example_axis = axis


def _position_axes(structure: Structure, choice: Choice, calls: Calls) -> dict[str, str]:
    """Module -> its position axis, for the chosen layers that read positions along axis 1.

    An attention's projections are none: what they read cannot be gathered for each of them.
    """
    keys = Counter(map(position_key, structure.positions))
    axes = {
        path: position_key(axis)
        for axis in structure.positions
        for path, _, leaf in [axis.tensor.rpartition(".")]
        if axis.axis == 1 and leaf == "weight" and keys[position_key(axis)] == 1
    }
    return {n: axes[n] for n in choice.variational if n in axes and n not in calls.off_axis}


def _without_scale(
    structure: Structure, network: nn.Module, choice: Choice, calls: Calls
) -> dict[str, str]:
    """Group -> why it has no scale: all who read it must be able to see one draw."""
    readers = {reader.weight for reader in variational_readers(network)}
    found = {}
    for group in structure.groups:
        tensors = read_by(group)
        if any(member.role == "consumed" for member in group.members):
            found[group.name] = (
                "it goes only if what produces it is silent: a product of two activations or the "
                "statistics of a normalisation read it"
            )
        elif not tensors:
            found[group.name] = "no layer reads it"
        for tensor in tensors:
            path = tensor.rpartition(".")[0]
            attention = path.removesuffix(".out_proj")
            off_axis = calls.off_axis.get(path) or calls.off_axis.get(attention)
            if tensor not in readers:
                why = choice.deterministic.get(path, "deterministic")
                found.setdefault(
                    group.name, f"read by {path or tensor}, which stays as it is: {why}"
                )
            elif off_axis is not None:
                found.setdefault(group.name, off_axis)
    return found


def _normalised(structure: Structure, choice: Choice) -> set[str]:
    """The groups all of whose readers put out units that a normalisation carries."""
    behind: set[str] = set()
    for group in structure.groups:
        carried = {m.tensor.rpartition(".")[0] for m in group.members if m.role == "carries"}
        if any(choice.deterministic.get(path) == NORMALISATION for path in carried):
            behind |= {m.tensor for m in group.members if m.role == "produces"}
    read = {group.name: set(read_by(group)) for group in structure.groups}
    return {name for name, tensors in read.items() if tensors and tensors <= behind}
