"""The graph of the real forward pass, from ``torch.export``, and who its tensors are."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch.export.graph_signature import InputKind

from epigram.errors import UnsupportedModelError
from epigram.structure.lines import user_frame
from epigram.structure.transformers import without_fast_path, without_mask_detection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

ExampleInputs: TypeAlias = "tuple[Any, ...] | Tensor"

_TRACE_BATCH = 2


class NotExportableError(UnsupportedModelError):
    """``torch.export`` cannot follow the forward pass as a whole."""


@dataclass(frozen=True)
class Traced:
    """An exported forward pass.

    ``tensors`` maps a placeholder to the parameter or buffer behind it, by the first of its names in
    the model; ``constants`` maps a placeholder to a value that the surgery does not slice: tensors
    that are no parameters or buffers, buffers outside the state, and buffers of integers.
    """

    graph_module: torch.fx.GraphModule
    tensors: dict[str, str]
    constants: dict[str, Tensor]
    shapes: dict[str, tuple[int, ...]]
    inputs: tuple[Any, ...]


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers by every name they have; tied ones appear under each name."""
    named: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    named.update(model.named_buffers(remove_duplicate=False))
    return named


def first_names(model: nn.Module) -> dict[str, str]:
    """Every tensor name -> the first name of the same tensor (they differ where weights are tied)."""
    seen: dict[int, str] = {}
    return {name: seen.setdefault(id(t), name) for name, t in named_tensors(model).items()}


def as_tuple(example_inputs: ExampleInputs) -> tuple[Any, ...]:
    """The positional arguments of one call of the model."""
    return example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)


@contextlib.contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Put models into eval mode, without gradients or random numbers drawn; undone afterwards."""
    before = [(module, module.training) for model in models for module in model.modules()]
    try:
        for module, _ in before:
            module.training = False
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        for module, training in before:
            module.training = training


def trace(model: nn.Module, example_inputs: ExampleInputs) -> Traced:
    """Export the model's forward pass in eval mode; the model is left as it was.

    Raises:
        NotExportableError: ``torch.export`` cannot follow the forward pass.
    """
    given = as_tuple(example_inputs)
    with evaluating(model), _quiet(), without_fast_path(), without_mask_detection():
        short = _first_examples(given)
        try:
            exported = torch.export.export(model, short, strict=False)
        except Exception as short_error:  # noqa: BLE001 - export raises all kinds of errors
            try:
                if short is given:
                    raise
                exported = torch.export.export(model, given, strict=False)
            except Exception as error:  # noqa: BLE001
                raise NotExportableError(
                    f"structure: torch.export cannot trace {type(model).__name__}.forward"
                    f"{_place(error)}: {_first_line(error)}; expected a forward pass without control flow that "
                    "depends on values, called as model(*example_inputs)"
                ) from short_error
            short = given
    return _describe(model, exported, short)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Neither warnings nor lines on standard error: what goes wrong in an export is said by our own error."""
    level = logging.root.manager.disable
    try:
        logging.disable(logging.CRITICAL)
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _first_examples(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """At most two examples of the batch, where all inputs agree on what the batch is."""
    plain = [isinstance(x, torch.Tensor) and x.dim() > 0 and not x.is_nested for x in inputs]
    sizes = {x.shape[0] if is_plain else 0 for x, is_plain in zip(inputs, plain, strict=True)}
    if len(sizes) != 1 or max(sizes) <= _TRACE_BATCH:
        return inputs
    return tuple(x[:_TRACE_BATCH] for x in inputs)


def _describe(
    model: nn.Module, exported: torch.export.ExportedProgram, inputs: tuple[Any, ...]
) -> Traced:
    first, values = first_names(model), named_tensors(model)
    tensors: dict[str, str] = {}
    constants: dict[str, Tensor] = {}
    for spec in exported.graph_signature.input_specs:
        name, target = spec.arg.name, spec.target
        buffer = spec.kind is InputKind.BUFFER and target is not None
        held = buffer and spec.persistent and values[target].is_floating_point()
        if target is not None and (spec.kind is InputKind.PARAMETER or held):
            tensors[name] = first[target]
        elif spec.kind is InputKind.BUFFER and target is not None:
            constants[name] = values[target]
        elif spec.kind is InputKind.CONSTANT_TENSOR and target is not None:
            constant = exported.constants.get(target)
            if isinstance(constant, torch.Tensor):
                constants[name] = constant
    _drop_unused_(exported.graph_module.graph, tensors)
    shapes = {name: tuple(values[name].shape) for name in dict.fromkeys(first.values())}
    return Traced(exported.graph_module, tensors, constants, shapes, inputs)


def _drop_unused_(graph: torch.fx.Graph, tensors: Mapping[str, str]) -> None:
    """Take out what nobody asks for (the mean over heads of ``y, _ = attention(x, x, x)``), in place.

    Layers stay: the small network calls them too, so they have to fit.
    """
    own: set[torch.fx.Node] = set()
    for node in graph.nodes:
        inputs = node.all_input_nodes
        if node.name in tensors if node.op == "placeholder" else inputs and own.issuperset(inputs):
            own.add(node)

    def stays(node: torch.fx.Node) -> bool:
        return node.is_impure() or not own.isdisjoint(node.all_input_nodes)

    graph.eliminate_dead_code(stays)


def _place(error: Exception) -> str:
    """Where in the network's own code: the line, its file and number; "" where that is not known."""
    frame = user_frame(error)
    if frame is None or not frame.line:
        return ""
    return f" at `{frame.line[:80]}` ({Path(frame.filename).name}, line {frame.lineno})"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
