"""Does a data set fit a model? Asked before time is spent."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import torch
from torch import Tensor, nn

from epigram.data.tensor_set import TensorSet
from epigram.errors import DataError

_EXAMPLES = 2


def check_fits(
    model: nn.Module, data: TensorSet, *, preprocess: Callable[[Tensor], Tensor] | None = None
) -> int:
    """Run two examples through ``model`` and compare its outputs with the labels.

    The model is left as it was: evaluation mode during the pass, training flags restored.

    Args:
        model: Any module taking one batch of inputs.
        data: The set to check; only integer labels ``[examples]`` are compared with the outputs.
        preprocess: What stands between raw inputs and the model.

    Returns:
        The model's number of outputs (the size of axis 1).

    Raises:
        DataError: the model does not take the inputs, or gives fewer outputs than there are labels.
    """
    shape = tuple(data.inputs.shape[1:])
    try:
        outputs = _outputs(model, data.inputs[:_EXAMPLES], preprocess)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{data.name}: {type(model).__name__} does not take inputs of shape {shape} and type "
            f"{data.inputs.dtype}: {reason}"
        ) from error
    if not isinstance(outputs, Tensor) or outputs.ndim < 2:
        kind = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise DataError(
            f"{data.name}: {type(model).__name__} returns {kind} for {min(_EXAMPLES, len(data))} "
            "examples, expected a tensor [examples, outputs]"
        )
    if not data.targets.is_floating_point() and data.targets.ndim == 1:
        _check_labels(data, type(model).__name__, outputs)
    return int(outputs.shape[1])


def _outputs(
    model: nn.Module, inputs: Tensor, preprocess: Callable[[Tensor], Tensor] | None
) -> object:
    place = next(chain(model.parameters(), model.buffers()), inputs).device
    training = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with torch.no_grad():
            x = inputs.to(place)
            return model(x if preprocess is None else preprocess(x))
    finally:
        for module, flag in training:
            module.training = flag


def _check_labels(data: TensorSet, model: str, outputs: Tensor) -> None:
    if outputs.ndim != 2:
        raise DataError(
            f"{data.name}: {model} returns shape {tuple(outputs.shape)}, expected "
            "[examples, classes] for one label per example"
        )
    low, high = int(data.targets.min()), int(data.targets.max())
    classes = int(outputs.shape[1])
    if low < 0 or high >= classes:
        raise DataError(
            f"{data.name}: labels run from {low} to {high}, but {model} has {classes} outputs; "
            f"expected labels 0 to {classes - 1}"
        )
