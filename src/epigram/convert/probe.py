"""Forward passes that are watched: which layers are really called, and how."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from epigram.convert.example_axes import Pass, Read, example_axes
from epigram.structure.trace import evaluating
from epigram.structure.transformers import without_fast_path


@dataclass(frozen=True)
class Calls:
    """How a network calls its layers.

    Attributes:
        stays: name -> why a counterpart could not stand in for the layer.
        axes: name -> the axis of what the layer reads that holds the examples.
        off_axis: name -> why there is none that a scale's draw fits.
    """

    stays: Mapping[str, str]
    axes: Mapping[str, int]
    off_axis: Mapping[str, str]


def watched_calls(
    model: nn.Module, example_inputs: tuple[Any, ...], chosen: Sequence[str]
) -> Calls:
    """Layers that a counterpart could not stand in for, and where the others have the examples.

    A layer whose weight is used by other code than its own ``forward`` (``F.linear(x, layer.weight)``)
    would be read at its mean there, without noise; one that is never called would only ever hear of
    its KL. A layer that does not have the examples on one axis cannot take a scale's draw.

    Args:
        model: in any mode; it is called once in ``eval()`` and left as it was. A copy is called with one
            example more.
        example_inputs: its positional arguments.
        chosen: the layers in question.
    """
    watch = _watched(model, example_inputs, chosen)
    outside = dict.fromkeys(watch.used_outside, "its weight is used outside of its own forward")
    never = {
        name: "forward does not call it on the example"
        for name in chosen
        if name not in watch.reads and name not in outside
    }

    def another(inputs: tuple[Any, ...]) -> Pass:
        return _watched(copy.deepcopy(model), inputs, chosen).seen()

    axes, off_axis = example_axes(example_inputs, watch.seen(), another)
    return Calls({**outside, **never}, axes, off_axis)


def _watched(model: nn.Module, inputs: tuple[Any, ...], chosen: Sequence[str]) -> _Watch:
    watch = _Watch(model, chosen)
    with evaluating(model), without_fast_path(), _uncompiled(model), watch.hooks(), watch:
        watch.output = model(*inputs)
    return watch


@contextmanager
def _uncompiled(model: nn.Module) -> Iterator[None]:
    """What ``module.compile()`` made is not called for a while: nobody can watch inside it."""
    before = {m: m._compiled_call_impl for m in model.modules() if m._compiled_call_impl}  # noqa: SLF001
    try:
        for module in before:
            module._compiled_call_impl = None  # noqa: SLF001
        yield
    finally:
        for module, compiled in before.items():
            module._compiled_call_impl = compiled  # noqa: SLF001


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
        self.reads: dict[str, list[tuple[Read, ...]]] = {}
        self.output: Any = None

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
            inputs = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
            read = 3 if isinstance(module, nn.MultiheadAttention) else 1  # masks are no inputs
            noted = tuple(Read.of(module, x) for x in inputs[:read])
            self.reads.setdefault(name, []).append(noted)

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
        results = result if isinstance(result, list | tuple) else (result,)
        if any(isinstance(r, Tensor) for r in results):  # not a question about shape or device
            for value in (*args, *(kwargs or {}).values()):
                for tensor in value if isinstance(value, list | tuple) else (value,):
                    name = self._owner.get(id(tensor))
                    if name is not None and name not in self._running:
                        self.used_outside[name] = None
        return result
