"""One forward pass that is watched: which layers are really called, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from epigram.convert.choices import Choices
from epigram.convert.example_axes import Pass, Read, example_axes, examples_in, size_of_batch
from epigram.errors import UnsupportedModelError
from epigram.structure.copying import copied, fresh
from epigram.structure.example import call_failed
from epigram.structure.functions import EveryFunction
from epigram.structure.trace import evaluating, first_examples
from epigram.structure.transformers import without_fast_path


@dataclass(frozen=True)
class Calls:
    """How a network calls its layers.

    Attributes:
        stays: name -> why a counterpart could not stand in for the layer.
        axes: name -> the axis of what the layer reads that holds the examples.
        off_axis: name -> why there is none that a scale's draw fits.
        examples_at: which of the sizes that :func:`~epigram.convert.example_axes.sizes_in` finds in a call is the number of examples.
    """

    stays: Mapping[str, str]
    axes: Mapping[str, int]
    off_axis: Mapping[str, str]
    examples_at: int


def watched_calls(
    model: nn.Module, example_inputs: tuple[Any, ...], chosen: Sequence[str]
) -> Calls:
    """Layers that a counterpart could not stand in for, and where the others have the examples.

    A layer whose weight is used by other code than its own ``forward`` (``F.linear(x, layer.weight)``)
    would be read at its mean there, without noise; one that is never called would only ever hear of
    its KL. A layer that does not have the examples on one axis cannot take a scale's draw.

    Args:
        model: in any mode; copies of it are called in ``eval()``, once on the example and once with an example
            more.
        example_inputs: its positional arguments.
        chosen: the layers in question.

    Raises:
        UnsupportedModelError: the model cannot be copied, or fails on the example.
    """
    try:
        watch = _watched(model, example_inputs, chosen)
    except UnsupportedModelError:
        raise
    except Exception as error:
        raise UnsupportedModelError(call_failed(model, example_inputs, error)) from error
    outside = dict.fromkeys(watch.used_outside, "its weight is used outside of its own forward")
    never = {
        name: "forward does not call it on the example"
        for name in chosen
        if name not in watch.reads and name not in outside
    }

    def another(inputs: tuple[Any, ...]) -> Pass:
        return _watched(model, inputs, chosen).seen()

    seen = watch.seen()
    at = size_of_batch(example_inputs, seen)
    examples = examples_in(example_inputs, at)
    axes, off_axis = example_axes(example_inputs, examples, seen, another)
    by_choice = {name: f"{name} reads rows that values choose" for name in watch.after_choice}
    return Calls({**outside, **never}, axes, {**by_choice, **off_axis}, at)


def _watched(model: nn.Module, inputs: tuple[Any, ...], chosen: Sequence[str]) -> _Watch:
    network = copied(model)
    watch = _Watch(network, chosen)
    with evaluating(network), without_fast_path(), watch.hooks(), watch:
        watch.output = network(*fresh(inputs))
    return watch


class _Watch(EveryFunction):
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
        self.reads: dict[str, list[tuple[Read, ...]]] = {}
        self.output: Any = None
        self.choices = Choices()
        self.after_choice: dict[str, None] = {}

    def seen(self) -> Pass:
        """What example axes are told from."""
        leaves = pytree.tree_leaves(self.output)
        sizes = (x.shape[0] for x in leaves if isinstance(x, Tensor) and x.dim())
        return Pass(self.reads, next(sizes, None))

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
            self._running.append(name)
            given = (*args, *kwargs.values())
            if self.choices.among(given):
                self.after_choice[name] = None
            inputs = [x for x in given if isinstance(x, Tensor)]
            read = 3 if isinstance(module, nn.MultiheadAttention) else 1  # masks are no inputs
            noted = tuple(Read.of(module, x) for x in inputs[:read])
            self.reads.setdefault(name, []).append(noted)

        return hook

    def _leave(self, *_: Any) -> None:
        self._running.pop()

    def call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = func(*args, **kwargs)
        self.choices.note(func, (*args, *kwargs.values()), result)
        results = result if isinstance(result, list | tuple) else (result,)
        if any(isinstance(r, Tensor) for r in results):  # not a question about shape or device
            for value in (*args, *kwargs.values()):
                for tensor in value if isinstance(value, list | tuple) else (value,):
                    name = self._owner.get(id(tensor))
                    if name is not None and name not in self._running:
                        self.used_outside[name] = None
        return result


def kept_example(model: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """At most two examples of the batch, in tensors of their own; all of it where the network needs that.

    Rows need not be examples: a graph with fewer of its nodes no longer fits all of its adjacency.
    """
    short = first_examples(inputs)
    return fresh(short if short is inputs or _runs(model, short) else inputs)


def _runs(model: nn.Module, inputs: tuple[Any, ...]) -> bool:
    network = copied(model)
    try:
        with evaluating(network), without_fast_path():
            network(*fresh(inputs))
    except Exception:  # noqa: BLE001 - forward is the user's, it may raise anything
        return False
    return True
