"""One forward pass that is watched: which layers are really called, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from epigram.convert.choices import Choices
from epigram.errors import UnsupportedModelError
from epigram.structure.copying import copied, fresh
from epigram.structure.example import call_failed
from epigram.structure.trace import evaluating, first_examples


@dataclass(frozen=True)
class Seen:
    """What one call of a network shows.

    Attributes:
        not_called: layer -> why a counterpart could not stand in for it.
        off_axis: layer -> why no scale can act on what it reads.
        examples_at: which of the sizes that :func:`sizes_in` finds in a call is the number of examples.
    """

    not_called: Mapping[str, str]
    off_axis: Mapping[str, str]
    examples_at: int


def watched_call(model: nn.Module, example_inputs: tuple[Any, ...], chosen: Sequence[str]) -> Seen:
    """Layers that a counterpart could not stand in for, and those whose input no scale can act on.

    A layer whose weight is used by other code than its own ``forward`` (``F.linear(x, layer.weight)``)
    would be read at its mean there, without noise; one that is never called would only ever hear of
    its KL. A layer that does not see the examples on axis 0 cannot take a scale's draw.

    Args:
        model: in any mode; a copy of it is called once in ``eval()``.
        example_inputs: its positional arguments.
        chosen: the layers in question.

    Raises:
        UnsupportedModelError: the model cannot be copied, or fails on the example.
    """
    network = copied(model)
    watch = _Watch(network, chosen)
    try:
        with evaluating(network), without_fast_path(), watch.hooks(), watch:
            network(*fresh(example_inputs))
    except Exception as error:
        raise UnsupportedModelError(call_failed(model, example_inputs, error)) from error
    outside = dict.fromkeys(watch.used_outside, "its weight is used outside of its own forward")
    never = {
        name: "forward does not call it on the example"
        for name in chosen
        if name not in watch.batches and name not in outside
    }
    sizes = sizes_in(example_inputs)
    readers = [sum(seen == {size} for seen in watch.batches.values()) for size in sizes]
    at = readers.index(max(readers)) if readers else 0
    off_axis = {
        name: f"{name} does not read the examples on axis 0"
        for name, seen in watch.batches.items()
        if sizes and seen != {sizes[at]}
    }
    chosen_rows = {n: f"{n} reads rows that values choose" for n in watch.after_choice}
    return Seen({**outside, **never}, {**chosen_rows, **off_axis}, at)


@contextmanager
def without_fast_path() -> Iterator[None]:
    """Keep torch's fused encoder kernels from computing with layers' weights instead of calling them."""
    before = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


class _Watch(TorchFunctionMode):
    """Sees every function that is called with a chosen layer's weight while the layer is not running."""

    def __init__(self, model: nn.Module, chosen: Sequence[str]) -> None:
        super().__init__()
        self._layers = {name: model.get_submodule(name) for name in chosen}
        self._owner = {
            id(parameter): name
            for name, layer in self._layers.items()
            for parameter in layer.parameters()
        }
        self._running: list[str] = []
        self.used_outside: dict[str, None] = {}
        self.batches: dict[str, set[int]] = {}
        self.choices = Choices()
        self.after_choice: dict[str, None] = {}

    @contextmanager
    def hooks(self) -> Iterator[None]:
        with ExitStack() as stack:
            for name, layer in self._layers.items():
                before = layer.register_forward_pre_hook(self._enter(name), with_kwargs=True)
                stack.callback(before.remove)
                after = layer.register_forward_hook(self._leave, always_call=True)
                stack.callback(after.remove)
            yield

    def _enter(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            del module
            self._running.append(name)
            given = (*args, *kwargs.values())
            if self.choices.among(given):
                self.after_choice[name] = None
            size = examples_in(given)
            self.batches.setdefault(name, set()).add(-1 if size is None else size)

        return hook

    def _leave(self, *_: Any) -> None:
        self._running.pop()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        result = func(*args, **(kwargs or {}))
        self.choices.note(func, (*args, *(kwargs or {}).values()), result)
        results = result if isinstance(result, list | tuple) else (result,)
        if any(isinstance(r, Tensor) for r in results):  # not a question about shape or device
            for value in (*args, *(kwargs or {}).values()):
                for tensor in value if isinstance(value, list | tuple) else (value,):
                    name = self._owner.get(id(tensor))
                    if name is not None and name not in self._running:
                        self.used_outside[name] = None
        return result


def kept_example(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """At most two examples of the batch, in tensors of their own."""
    return fresh(first_examples(inputs))


def examples_in(values: Iterable[Any], at: int = 0) -> int | None:
    """How many examples a call is about; None: it is about no tensor at all.

    Args:
        values: the arguments of the call.
        at: which of the sizes in them it is.
    """
    sizes = sizes_in(values)
    return None if not sizes else sizes[at if at < len(sizes) else 0]


def sizes_in(values: Iterable[Any]) -> list[int]:
    """What may be the number of examples: the first axis of each tensor, or the length of a list.

    A list of tensors of up to three axes (images of different sizes) may be one of examples; its length
    comes before their sizes. One of larger tensors (maps of several scales) has the examples on their
    first axis.

    Example:
        >>> sizes_in(([torch.ones(4, 5), torch.ones(4, 5)], torch.ones(3)))
        [2, 4, 4, 3]
    """
    found: list[int] = []
    for value in values:
        if isinstance(value, Tensor):
            found += value.shape[:1]
        elif isinstance(value, Mapping):
            found += sizes_in(value.values())
        elif isinstance(value, list | tuple):
            if value and isinstance(value[0], Tensor) and value[0].dim() <= 3:
                found.append(len(value))
            found += sizes_in(value)
    return found
