"""The way from a model to its structure: trace, run on labels, describe, try."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from torch.nn.parameter import is_lazy

from epigram.errors import UnsupportedModelError
from epigram.records import LeftWhole
from epigram.structure.grouping import SizedStructure, describe
from epigram.structure.normalise import can_be_narrow
from epigram.structure.parts import analyse_parts
from epigram.structure.propagate import Propagation
from epigram.structure.trace import NotExportableError, as_tuple, named_tensors, trace
from epigram.structure.training import (
    differs,
    keep_what_training_needs,
    trace_in_training,
)
from epigram.structure.trial import keep_what_can_go

if TYPE_CHECKING:
    from torch import nn

    from epigram.structure.trace import ExampleInputs


OnFailure: TypeAlias = Literal["raise", "leave"]
"""What becomes of a network nothing can be said about: an error, or one without groups."""

_WAY_ON = (
    "or keep every unit and go on without this analysis: on_failure='leave' "
    "(--posterior.on_failure leave)"
)


def analyse(
    model: nn.Module,
    example_inputs: ExampleInputs,
    *,
    attention: Literal["heads", "places"] = "heads",
    stream: Literal["whole", "narrow"] = "whole",
    on_failure: OnFailure = "raise",
) -> SizedStructure:
    """Which units of a network fall together, who produces and who reads them.

    The model's training mode, tensors and the global random state are as before afterwards. Where the
    forward pass as a whole cannot be exported, the parts that can are analysed by themselves, and
    ``left_whole`` says so.

    Args:
        model: Any plain module; its own class is kept by the surgery.
        example_inputs: The positional arguments of one call, as a tuple or one tensor; two
            examples of the batch are enough.
        attention: The units where heads times places are split up: whole heads, or the same
            place of every head (the width of a head).
        stream: What becomes of units under the statistics of ``nn.LayerNorm`` and ``nn.RMSNorm`` (the
            residual stream of a transformer): they stay, or they may go, and the normalisations go
            on counting them as zeros.
        on_failure: ``"leave"``: a network nothing can be said about has no groups, and the reason
            is in ``left_whole``, instead of an error.

    Raises:
        UnsupportedModelError: the model cannot be traced or copied, has no values yet, or no layer
            has parameters that read or produce units; the message says which.
    """
    by_places = attention == "places"

    def analysis(part: nn.Module, inputs: ExampleInputs) -> SizedStructure:
        return _analyse(part, inputs, by_places=by_places, by_stream=stream == "narrow")

    try:
        try:
            found = analysis(model, example_inputs)
        except NotExportableError as error:
            found = analyse_parts(model, example_inputs, analysis, error)
            if differs(model, as_tuple(example_inputs)):
                found = keep_what_training_needs(found, model, as_tuple(example_inputs))
        return _with_a_reason(found)
    except UnsupportedModelError as error:
        if on_failure == "raise":
            if isinstance(error, NotExportableError):
                raise NotExportableError(f"{error}, {_WAY_ON}") from error
            raise
        shapes = {n: tuple(t.shape) for n, t in named_tensors(model).items() if not is_lazy(t)}
        left = (LeftWhole("forward", "export", str(error)),)
        return SizedStructure((), (), left, shapes)


def _with_a_reason(structure: SizedStructure) -> SizedStructure:
    """Where nothing can go and no layer is named for it, what the layers produce is the output."""
    if structure.groups or structure.left_whole:
        return structure
    reason = "all that its layers produce is the network's output, which stays as it is"
    return replace(structure, left_whole=(LeftWhole("forward", "output", reason),))


def _analyse(
    model: nn.Module, example_inputs: ExampleInputs, *, by_places: bool, by_stream: bool
) -> SizedStructure:
    traced = trace(model, example_inputs)
    modules = model.named_modules() if by_stream else ()
    narrowable = [name for name, module in modules if can_be_narrow(module)]
    other = differs(model, traced.inputs)
    trained = trace_in_training(model, traced.inputs) if other else None
    propagation = Propagation(traced, trained, by_places=by_places, narrowable=narrowable)
    layers = any(use.role in ("reads", "produces") for use in propagation.uses)
    if not layers and not propagation.whole:
        met = sorted(
            {str(n.target) for n in traced.graph_module.graph.nodes if n.op == "call_function"}
        )
        raise UnsupportedModelError(
            f"structure: no linear, convolution or embedding layer in {type(model).__name__}; "
            f"its forward pass is made of {', '.join(met) or 'nothing'}"
        )
    structure = describe(propagation, traced.shapes)
    found = keep_what_can_go(structure, model, traced.inputs, propagation)
    return keep_what_training_needs(found, model, traced.inputs) if other else found
