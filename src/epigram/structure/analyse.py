"""The way from a model to its structure: trace, run on labels, describe, try."""

from __future__ import annotations

from typing import TYPE_CHECKING

from epigram.errors import UnsupportedModelError
from epigram.structure.grouping import describe
from epigram.structure.propagate import Propagation
from epigram.structure.trace import trace
from epigram.structure.trial import keep_what_can_go

if TYPE_CHECKING:
    from torch import nn

    from epigram.structure.grouping import SizedStructure
    from epigram.structure.trace import ExampleInputs


def analyse(model: nn.Module, example_inputs: ExampleInputs) -> SizedStructure:
    """Which units of a network fall together, who produces and who reads them.

    The model's training mode, tensors and the global random state are as before afterwards.

    Args:
        model: Any plain module; its own class is kept by the surgery.
        example_inputs: The positional arguments of one call, as a tuple or one tensor; two
            examples of the batch are enough.

    Raises:
        UnsupportedModelError: the model cannot be traced or copied, or no layer has parameters that
            read or produce units; the message says which.
    """
    traced = trace(model, example_inputs)
    propagation = Propagation(traced)
    if not any(use.role in ("reads", "produces") for use in propagation.uses):
        met = sorted(
            {str(n.target) for n in traced.graph_module.graph.nodes if n.op == "call_function"}
        )
        raise UnsupportedModelError(
            f"structure: no linear, convolution or embedding layer in {type(model).__name__}; "
            f"its forward pass is made of {', '.join(met) or 'nothing'}"
        )
    structure = describe(propagation, traced.shapes)
    return keep_what_can_go(structure, model, traced.inputs, propagation)
