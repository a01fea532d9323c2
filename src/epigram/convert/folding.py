"""Normalisation folded into the layer before it, so that a file need not say it.

    gamma · (W x + b - mean) / sqrt(var + eps) + beta  =  W' x + b'

The user's class still has the normalisation; it is left as the identity: gamma 1, mean 0, variance 1.
Where the layer has no bias, b' is the normalisation's beta.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from epigram.structure.copying import copied
from epigram.structure.verify import compare, outputs_of

_READERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True, eq=False)
class Folded:
    """A network without normalisation, as far as it could be folded.

    Attributes:
        network: a copy, in eval(); it computes what the original does, to within rounding.
        settled: modules that are the identity now (but for a shift) and stay in eval().
        fixed: parameters that are constants of that identity, 0 or 1.
    """

    network: nn.Module
    settled: tuple[str, ...]
    fixed: tuple[str, ...]


def fold_normalisation(network: nn.Module, example: Tensor) -> Folded:
    """Fold every batch normalisation that directly follows a linear layer or a convolution.

    Pairs are found by running the network: a normalisation reads the very tensor that a layer put out.
    Each is folded, and kept only if the network still computes the same in eval(): where the layer's
    output is read by someone else, or its weight is tied, it does not, and the normalisation stays.

    Args:
        network: any plain module; it is copied.
        example: what it is called with.
    """
    folded = copied(network).eval()
    modules = dict(folded.named_modules())
    settled: list[str] = []
    fixed: list[str] = []
    for reader, norm in _pairs(folded, example):
        before = outputs_of(folded, (example,))
        kept = {name: copy.deepcopy(modules[name].state_dict()) for name in (reader, norm)}
        _fold_(modules[reader], modules[norm])
        difference, allowed, reason = compare(outputs_of(folded, (example,)), before)
        if reason or not difference <= allowed:
            for name, state in kept.items():
                modules[name].load_state_dict(state)
            continue
        settled.append(norm)
        constants = ["weight"] if modules[reader].bias is None else ["weight", "bias"]
        fixed += [f"{norm}.{name}" for name in constants if modules[norm].affine]
    return Folded(folded, tuple(settled), tuple(fixed))


def _pairs(network: nn.Module, example: Tensor) -> list[tuple[str, str]]:
    """(layer, normalisation behind it), in the order of the computation; each called once."""
    made: dict[int, str] = {}
    alive: list[Tensor] = []  # so that no two tensors share an id
    found: list[tuple[str, str]] = []
    calls: dict[str, int] = {}

    def look(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        calls[name] = calls.get(name, 0) + 1
        if isinstance(output, Tensor) and type(module) in _READERS:
            made[id(output)] = name
            alive.append(output)
        if isinstance(module, _BatchNorm) and inputs and id(inputs[0]) in made:
            found.append((made[id(inputs[0])], name))

    with _watched(network, look), torch.no_grad():
        network(example)
    modules = dict(network.named_modules())
    return [
        (reader, norm)
        for reader, norm in found
        if calls[reader] == calls[norm] == 1 and _can_fold(modules[reader], modules[norm])
    ]


def _can_fold(reader: Any, norm: Any) -> bool:
    """Are there statistics to fold, and a place for the shift?"""
    return norm.running_var is not None and (reader.bias is not None or norm.affine)


@torch.no_grad()
def _fold_(reader: Any, norm: Any) -> None:
    spread = torch.sqrt(norm.running_var + norm.eps)
    factor = (norm.weight if norm.affine else torch.ones_like(spread)) / spread
    shift = -norm.running_mean * factor + (norm.bias if norm.affine else 0.0)
    left = (1.0 + norm.eps) ** 0.5  # what the identity still divides by
    reader.weight.mul_((factor * left).view(-1, *[1] * (reader.weight.dim() - 1)))
    if reader.bias is not None:
        reader.bias.copy_((reader.bias * factor + shift) * left)
    norm.running_mean.zero_()
    norm.running_var.fill_(1.0)
    if norm.affine:
        norm.weight.fill_(1.0)
        norm.bias.copy_(shift if reader.bias is None else torch.zeros_like(shift))


@contextmanager
def _watched(
    network: nn.Module, look: Callable[[str, nn.Module, tuple[Any, ...], Any], None]
) -> Iterator[None]:
    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        return lambda module, inputs, output: look(name, module, inputs, output)

    handles = [m.register_forward_hook(hook(name)) for name, m in network.named_modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
