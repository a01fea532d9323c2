"""Run one step slowly and name the first tensor in it that is not finite."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from epigram.train.run import Run

Kind: TypeAlias = Literal[
    "parameter before the step",
    "input",
    "module output",
    "loss",
    "gradient of module output",
    "gradient",
    "gradient norm",
    "parameter after the step",
]


@dataclass(frozen=True)
class Finding:
    """The first tensor of a step that holds a NaN or an infinity.

    Attributes:
        kind: where in the step it stands.
        name: the module's, parameter's or loss term's name.
        shape: the tensor's.
        nan: how many entries are NaN.
        inf: how many are infinite.
    """

    kind: Kind
    name: str
    shape: tuple[int, ...]
    nan: int
    inf: int

    def __str__(self) -> str:
        size = 1
        for length in self.shape:
            size *= length
        return (
            f"{self.kind} {self.name!r}, shape {list(self.shape)}: "
            f"{self.nan} NaN and {self.inf} infinite of {size}"
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self) | {"shape": list(self.shape)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Finding:
        """The inverse of ``to_dict``."""
        return cls(**{**values, "shape": tuple(values["shape"])})


def examine(run: Run, x: Tensor, y: Tensor) -> Finding | None:
    """Do one step of ``run`` with hooks everywhere; what was not finite first, if anything.

    The order is the step's own: parameters and inputs, module outputs in the order of computation,
    loss terms, gradients in the order of back-propagation, parameters after the update. The step ends
    where something is found.
    """
    named = list(run.learner.module.named_parameters())
    found = _first("parameter before the step", named) or _first("input", [("x", x), ("y", y)])
    if found:
        return found
    watch = _Watch(run.learner.module)
    with watch:
        parts = run.forward(x, y)
        if watch.found:
            return watch.found
        terms = [("kl_nats", parts.kl_nats), ("nll", parts.nll), ("loss", parts.loss)]
        found = _first("loss", ((name, term) for name, term in terms if term is not None))
        if found:
            return found
        grad_norm = run.backward(parts)
        if watch.found:
            return watch.found
    found = _first("gradient norm", [("all parameters", grad_norm)])
    if found:
        return found
    run.update(parts, grad_norm)
    return _first("parameter after the step", named)


class _Watch:
    """Hooks that remember the first tensor that is not finite, while the block lasts."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.found: Finding | None = None
        self.handles: list[RemovableHandle] = []

    def __enter__(self) -> None:
        for name, module in self.module.named_modules():
            hook = self._output_hook(name or "(the whole network)")
            self.handles.append(module.register_forward_hook(hook))
        for name, parameter in self.module.named_parameters():
            if parameter.requires_grad:
                hook = self._gradient_hook(name)
                register: Any = parameter.register_post_accumulate_grad_hook
                self.handles.append(register(hook))

    def __exit__(self, *exception: object) -> None:
        for handle in self.handles:
            handle.remove()

    def _note(self, kind: Kind, name: str, tensor: Tensor | None) -> None:
        if self.found is None and tensor is not None:
            self.found = _first(kind, [(name, tensor)])

    def _output_hook(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            del module, inputs
            for tensor in _tensors(output):
                self._note("module output", name, tensor)
                if tensor.requires_grad:
                    register: Any = tensor.register_hook
                    self.handles.append(register(self._output_gradient_hook(name)))

        return hook

    def _output_gradient_hook(self, name: str) -> Callable[[Tensor], None]:
        return lambda gradient: self._note("gradient of module output", name, gradient)

    def _gradient_hook(self, name: str) -> Callable[..., None]:
        def hook(parameter: Tensor) -> None:
            self._note("gradient", name, parameter.grad)

        return hook


def _first(kind: Kind, named: Iterable[tuple[str, Tensor]]) -> Finding | None:
    for name, tensor in named:
        values = tensor.detach()
        if values.is_floating_point() and not bool(torch.isfinite(values).all()):
            nan = int(torch.isnan(values).sum())
            inf = int(torch.isinf(values).sum())
            return Finding(kind, name, tuple(values.shape), nan, inf)
    return None


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
