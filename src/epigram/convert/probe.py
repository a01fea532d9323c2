"""One forward pass that is watched: which layers are really called, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from epigram.structure.trace import evaluating, first_examples


def why_not_by_call(
    model: nn.Module, example_inputs: tuple[Any, ...], chosen: Sequence[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Layers that a counterpart could not stand in for, and those whose input no scale can act on.

    A layer whose weight is used by other code than its own ``forward`` (``F.linear(x, layer.weight)``)
    would be read at its mean there, without noise; one that is never called would only ever hear of
    its KL. A layer that does not see the examples on axis 0 cannot take a scale's draw.

    Args:
        model: in any mode; it is called once in ``eval()`` and left as it was.
        example_inputs: its positional arguments.
        chosen: the layers in question.

    Returns:
        Name -> why it stays deterministic; name -> why no scale acts on its input.
    """
    watch = _Watch(model, chosen)
    with evaluating(model), without_fast_path(), _uncompiled(model), watch.hooks(), watch:
        model(*example_inputs)
    outside = dict.fromkeys(watch.used_outside, "its weight is used outside of its own forward")
    never = {
        name: "forward does not call it on the example"
        for name in chosen
        if name not in watch.batches and name not in outside
    }
    examples = examples_in(example_inputs)
    off_axis = {
        name: f"{name} does not read the examples on axis 0"
        for name, sizes in watch.batches.items()
        if examples is not None and sizes != {examples}
    }
    return {**outside, **never}, off_axis


@contextmanager
def without_fast_path() -> Iterator[None]:
    """Keep torch's fused encoder kernels from computing with layers' weights instead of calling them."""
    before = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


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
        self.batches: dict[str, set[int]] = {}

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
            size = examples_in((*args, *kwargs.values()))
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
    example: tuple[Any, ...] = pytree.tree_map_only(
        Tensor, lambda x: x.detach().clone(), first_examples(inputs)
    )
    return example


def examples_in(values: Iterable[Any]) -> int | None:
    """How many examples a call is about: the first tensor's first axis, or a list's single examples.

    A list of tensors of up to three axes (images of different sizes) is one of examples; one of larger
    tensors (maps of several scales) has the examples on their first axis. None: no tensor at all.
    """
    for value in values:
        if isinstance(value, Tensor) and value.dim():
            return value.shape[0]
        if isinstance(value, list | tuple) and value and isinstance(value[0], Tensor):
            return len(value) if value[0].dim() <= 3 else value[0].shape[0]
    return None
