"""The graph of the real forward pass, from ``torch.export``, and who its tensors are."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch.export.graph_signature import InputKind
from torch.nn.parameter import is_lazy
from torch.utils import _pytree as pytree

from epigram.errors import UnsupportedModelError
from epigram.structure.copying import copied, fresh, tensors_kept
from epigram.structure.example import call_failed, check_example
from epigram.structure.lines import first_line, place
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
    that are no parameters or buffers, buffers outside the state, and buffers of integers. ``chooses``: there
    are sizes that depend on values (``h[mask]``), so that few examples may show next to nothing. ``training``:
    the pass is that of train mode.
    """

    graph_module: torch.fx.GraphModule
    tensors: dict[str, str]
    constants: dict[str, Tensor]
    shapes: dict[str, tuple[int, ...]]
    inputs: tuple[Any, ...]
    chooses: bool = False
    training: bool = False


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
def evaluating(*models: nn.Module, training: bool = False) -> Iterator[None]:
    """Put models into eval (or train) mode, without gradients or random numbers drawn; undone afterwards."""
    before = [(module, module.training) for model in models for module in model.modules()]
    try:
        for module, _ in before:
            module.training = training
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        for module, mode in before:
            module.training = mode


def trace(model: nn.Module, example_inputs: ExampleInputs, *, training: bool = False) -> Traced:
    """Export the forward pass of a copy of the model, in eval (or train) mode; model and example are left as they were.

    The copy is exported as the model is. Where that fails, and a first call leaves it with something it
    had not (a table it makes once), so is a copy that has been called.

    Raises:
        UnsupportedModelError: the model cannot be copied, or fails on the example.
        NotExportableError: ``torch.export`` cannot follow the forward pass.
    """
    given = fresh(as_tuple(example_inputs))
    _check_model(model)
    check_example(given)
    short = first_examples(given)
    cold: Exception | None = None
    ways = [given] if short is given else [short, given]
    for network, inputs, called in _attempts(model, ways, training=training):
        with (
            evaluating(network, training=training),
            _quiet(),
            without_fast_path(),
            without_mask_detection(),
        ):
            try:
                exported = torch.export.export(network, fresh(inputs), strict=False)
            except Exception as error:  # noqa: BLE001 - export raises all kinds of errors
                cold = cold if called else error
                continue
        chooses = any(map(_depends_on_values, exported.graph.nodes))
        traced = _describe(model, network, exported, given if chooses else inputs)
        return replace(traced, chooses=chooses, training=training)
    assert cold is not None
    raise NotExportableError(
        f"structure: torch.export cannot trace {type(model).__name__}.forward{place(cold)}: "
        f"{first_line(cold)}; expected a forward pass without control flow that depends on values, "
        "called as model(*example_inputs): choose by values with torch.where"
    ) from cold


def _check_model(model: nn.Module) -> None:
    """Refuse what no export could follow, with a better reason than the export would give.

    Raises:
        UnsupportedModelError: a parameter has no values yet, or a part of the model is a ``torch.jit`` module.
    """
    for name, tensor in named_tensors(model).items():
        if is_lazy(tensor):
            raise UnsupportedModelError(
                f"structure: {name} is not there yet, its layer has not seen an input (a lazy module); "
                "call the model once on an example first"
            )
        if tensor.is_meta:
            raise UnsupportedModelError(
                f"structure: {name} is on the meta device and has no values; removal is tried on a "
                "copy, so put the model on a real one first: model.to_empty(device='cpu'), then load it"
            )
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise UnsupportedModelError(
                f"structure: {name or 'the model'} is a {type(module).__name__} (torch.jit), inside of "
                "which nobody can look; expected an ordinary module, such as the one that it was "
                f"scripted or traced from (a {module.original_name})"
            )


def _attempts(
    model: nn.Module, ways: list[tuple[Any, ...]], *, training: bool
) -> Iterator[tuple[nn.Module, tuple[Any, ...], bool]]:
    """Copies of the model, each with inputs to export it for, and whether it has been called with them."""
    called, inputs = copied(model), ways[0]
    before = tensors_kept(called)
    try:
        check_call(called, inputs, training=training)
    except UnsupportedModelError:
        if len(ways) == 1:
            raise
        yield from _attempts(model, ways[1:], training=training)
        return
    for way in ways:
        yield copied(model), way, False
    after = tensors_kept(called)
    if list(map(id, before)) != list(map(id, after)):
        yield called, inputs, True


def check_call(
    network: nn.Module, inputs: tuple[Any, ...], *, how: str = "", training: bool = False
) -> None:
    """Call a network with inputs of its own; ``how`` it is called is said in the error.

    Raises:
        UnsupportedModelError: it fails.
    """
    try:
        with evaluating(network, training=training), _quiet():
            network(*fresh(inputs))
    except Exception as error:
        raise UnsupportedModelError(
            f"structure: {how}{call_failed(network, inputs, error)}"
        ) from error


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


def first_examples(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """At most two examples of the batch, where all inputs agree on what the batch is."""
    plain = [isinstance(x, torch.Tensor) and x.dim() > 0 and not x.is_nested for x in inputs]
    sizes = {x.shape[0] if is_plain else 0 for x, is_plain in zip(inputs, plain, strict=True)}
    if len(sizes) != 1 or max(sizes) <= _TRACE_BATCH:
        return inputs
    return tuple(x[:_TRACE_BATCH] for x in inputs)


def _describe(
    model: nn.Module,
    network: nn.Module,
    exported: torch.export.ExportedProgram,
    inputs: tuple[Any, ...],
) -> Traced:
    """What was exported of a copy, under the names of the model; what only the copy has is constant."""
    first, values = first_names(model), named_tensors(network)
    tensors: dict[str, str] = {}
    constants: dict[str, Tensor] = {}
    for spec in exported.graph_signature.input_specs:
        name, target = spec.arg.name, spec.target
        buffer = spec.kind is InputKind.BUFFER
        if target is not None and (buffer or spec.kind is InputKind.PARAMETER):
            held = not buffer or (spec.persistent and values[target].is_floating_point())
            if held and target in first:
                tensors[name] = first[target]
            else:
                constants[name] = values[target]
        elif spec.kind is InputKind.CONSTANT_TENSOR and target is not None:
            constant = exported.constants.get(target)
            if isinstance(constant, torch.Tensor):
                constants[name] = constant
    _drop_unused_(exported.graph_module.graph, tensors)
    shapes = {name: tuple(values[name].shape) for name in dict.fromkeys(first.values())}
    return Traced(exported.graph_module, tensors, constants, shapes, inputs)


def _depends_on_values(node: torch.fx.Node) -> bool:
    """Has one of its results a size that is no number?"""
    values = pytree.tree_leaves(node.meta.get("val"))
    return any(
        not isinstance(n, int) for v in values if isinstance(v, torch.Tensor) for n in v.shape
    )


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
