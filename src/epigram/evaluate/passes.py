"""A module over a data set: outputs, and what they are worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from epigram.errors import ConfigError, DataError
from epigram.evaluate.evaluation import Evaluation, Metric, evaluate_logits
from epigram.evaluate.modes import evaluating


@runtime_checkable
class Labelled(Protocol):
    """Anything with inputs and targets, a ``TensorSet`` above all."""

    @property
    def inputs(self) -> Tensor: ...
    @property
    def targets(self) -> Tensor: ...


def predictions(
    model: nn.Module,
    data: Labelled | tuple[Tensor, Tensor] | Tensor,
    *,
    preprocess: Callable[[Tensor], Tensor] | None = None,
    batch_size: int = 1000,
    device: torch.device | str | None = None,
) -> Float[Tensor, "examples *outputs"]:
    """The model's outputs for every example, in order, in evaluation mode; fp32 on the CPU.

    Args:
        model: Left as it was: training flags are restored.
        data: A labelled set, a pair (inputs, targets), or inputs alone.
        preprocess: Applied to each batch of raw inputs, on the device.
        batch_size: Examples per pass.
        device: Where the model is; None asks the model.

    Raises:
        ConfigError: ``batch_size`` is not positive.
        DataError: no examples, or the model returns something other than one row per example.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size: got {batch_size}, expected 1 or more")
    inputs = _inputs(data)
    if len(inputs) == 0:
        raise DataError("predictions: got no examples, expected at least one")
    place = _place(model, inputs) if device is None else device
    outputs: list[Tensor] = []
    with evaluating(model):
        for raw in torch.split(inputs, batch_size):
            x = raw.to(place, copy=True)  # a forward pass may change it in place
            output = model(x if preprocess is None else preprocess(x))
            outputs.append(_rows(output, len(raw), type(model).__name__))
        return torch.cat(outputs).float().cpu()


def evaluate(
    model: nn.Module,
    data: Labelled | tuple[Tensor, Tensor],
    *,
    preprocess: Callable[[Tensor], Tensor] | None = None,
    batch_size: int = 1000,
    device: torch.device | str | None = None,
    metrics: Mapping[str, Metric] | None = None,
) -> Evaluation:
    """Judge a classifier on a labelled set, in evaluation mode.

    Args:
        model: Left as it was: training flags are restored.
        data: A labelled set or a pair (inputs, targets).
        preprocess: Applied to each batch of raw inputs, on the device.
        batch_size: Examples per pass; figures do not depend on it beyond rounding.
        device: Where the model is; None asks the model.
        metrics: The caller's own, by name: ``(logits, targets) -> float``.

    Raises:
        DataError: shapes or labels do not fit the model's outputs.
        ConfigError: ``batch_size`` is not positive, or a metric's name is taken.

    Example:
        >>> data = torch.eye(3), torch.tensor([0, 1, 1])
        >>> evaluate(nn.Identity(), data).confusion.tolist()
        [[1, 0, 0], [0, 1, 1], [0, 0, 0]]
    """
    logits = predictions(model, data, preprocess=preprocess, batch_size=batch_size, device=device)
    targets = data[1] if isinstance(data, tuple) else data.targets
    return evaluate_logits(logits, targets, metrics=metrics)


def _inputs(data: Labelled | tuple[Tensor, Tensor] | Tensor) -> Tensor:
    if isinstance(data, Tensor):
        return data
    return data[0] if isinstance(data, tuple) else data.inputs


def _place(model: nn.Module, inputs: Tensor) -> torch.device:
    return next(chain(model.parameters(), model.buffers()), inputs).device


def _rows(output: object, examples: int, model: str) -> Tensor:
    if not isinstance(output, Tensor) or output.ndim == 0 or len(output) != examples:
        kind = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise DataError(
            f"predictions: {model} returns {kind} for {examples} examples, "
            "expected a tensor with one row per example"
        )
    return output
