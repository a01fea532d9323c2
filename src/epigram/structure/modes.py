"""Does a network do the same in train mode as in eval mode, but for what torch's own layers do there?

It runs in both modes, and each function of torch that its code calls is written down: on which tensors,
with which other arguments. Where both lists are the same, so is the graph; then eval mode tells everything.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from epigram.structure.functions import EveryFunction
from epigram.structure.trace import named_tensors

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

_KNOWS_MODES = frozenset(
    [
        "batch_norm",
        "instance_norm",
        "multi_head_attention_forward",
        "scaled_dot_product_attention",
        "rrelu",
        "lstm",
        "gru",
        "rnn_tanh",
        "rnn_relu",
    ]
)
"""Functions that are told the mode, or how much to drop, and treat units alike in both; so do all dropouts."""

_Calls = list[tuple[Any, ...]]


def acts_alike(network: nn.Module, inputs: tuple[Any, ...]) -> bool | None:
    """Are the calls of both modes the same? None where the network does not run in train mode.

    Args:
        network: a copy; its mode and what ``forward`` keeps on it are changed.
        inputs: what it is called with.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)  # another way to the same numbers
        trained = _calls(network.train(), inputs)  # first, as it may fail, and at once
        return trained == _calls(network.eval(), inputs)
    except Exception:  # noqa: BLE001 - forward is the user's, it may raise anything
        return None
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _calls(network: nn.Module, inputs: tuple[Any, ...]) -> _Calls:
    recorder = _Recorder(network, inputs)
    with (
        torch.no_grad(),
        torch.random.fork_rng(devices=[]),
        warnings.catch_warnings(),
        recorder,
    ):
        warnings.simplefilter("ignore")
        output = network(*inputs)
    leaves, layout = pytree.tree_flatten(output)
    return [*recorder.calls, ("output", str(layout), *map(recorder.told, leaves))]


class _Recorder(EveryFunction):
    """Writes down calls; tensors by the names of the network's own, or by when they were first seen."""

    def __init__(self, network: nn.Module, inputs: tuple[Any, ...]) -> None:
        super().__init__()
        self.calls: _Calls = []
        self._own: dict[int, str] = {}
        for name, tensor in named_tensors(network).items():
            self._own.setdefault(id(tensor), name)
        self._counters = {id(t) for t in network.buffers() if not t.is_floating_point()}
        self._seen: dict[int, int] = {}
        self._alive: list[Tensor] = []  # so that none is taken for another
        for leaf in pytree.tree_leaves(inputs):
            self.told(leaf)

    def told(self, value: Any) -> Any:
        """A value as it is written down."""
        if not isinstance(value, torch.Tensor):
            return repr(value)
        if id(value) in self._own:
            return self._own[id(value)]
        if id(value) not in self._seen:
            self._seen[id(value)] = len(self._seen)
            self._alive.append(value)
        return self._seen[id(value)]

    def call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = getattr(func, "__name__", repr(func))
        leaves, layout = pytree.tree_flatten((args, kwargs))
        if not self._counts(name, leaves):
            self.calls.append((name, *self._arguments(name, leaves, str(layout))))
        result = func(*args, **kwargs)
        if _knows_modes(name) and isinstance(result, torch.Tensor):
            result = result.view_as(result)  # in eval mode a dropout returns what it is given
        for leaf in pytree.tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.told(leaf)
        return result

    def _arguments(self, name: str, leaves: list[Any], layout: str) -> tuple[Any, ...]:
        if _knows_modes(name):
            return tuple(self.told(leaf) for leaf in leaves if isinstance(leaf, torch.Tensor))
        return layout, *map(self.told, leaves)

    def _counts(self, name: str, leaves: list[Any]) -> bool:
        """Does it only count batches, as batch normalisation does in training?"""
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        return name in ("add_", "__iadd__") and all(id(t) in self._counters for t in tensors)


def _knows_modes(name: str) -> bool:
    return name in _KNOWS_MODES or "dropout" in name
