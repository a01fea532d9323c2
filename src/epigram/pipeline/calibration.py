"""Post-training coding with a network and data: what its weights are worth, and what its file is worth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from epigram.data import TensorSet
from epigram.errors import ConfigError
from epigram.evaluate import evaluate
from epigram.pipeline.packing import Judge, Packed, State, pack
from epigram.pipeline.recipe import Recipe
from epigram.records import FileContents, Floor


def fill(model: nn.Module, contents: FileContents) -> nn.Module:
    """Put a file's values into a module of the same shapes, in place; returns it."""
    state = model.state_dict()
    with torch.no_grad():
        for tensor in contents.tensors:
            state[tensor.name].copy_(torch.from_numpy(np.array(tensor.values())))
    return model


def fisher(
    model: nn.Module, inputs: torch.Tensor, *, seed: int = 0, batch: int = 4
) -> dict[str, NDArray[np.float64]]:
    """The diagonal of the Fisher information, by parameter, its mean over all weights 1.

    Labels are drawn from the network's own answers; a batch's squared gradient stands for the sum of its
    examples' (their cross terms vanish on average). A twentieth of the tensor's mean is added everywhere, so
    that weights no example moved are not thrown away.

    Args:
        model: a classifier, in evaluation mode.
        inputs: examples, [examples, ...].
        seed: of the labels drawn.
        batch: examples whose gradients are taken together.
    """
    generator = torch.Generator().manual_seed(seed)
    parameters = {n: p for n, p in model.named_parameters() if p.ndim > 1 and p.requires_grad}
    sums = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for start in range(0, len(inputs), batch):
        logits = model(inputs[start : start + batch])
        drawn = torch.multinomial(logits.detach().softmax(1), 1, generator=generator)[:, 0]
        loss = nn.functional.cross_entropy(logits, drawn, reduction="sum")
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        for name, gradient in zip(parameters, gradients, strict=True):
            sums[name] += gradient.square()
    raw = {n: (s + 0.05 * s.mean() + 1e-30).double().numpy() for n, s in sums.items()}
    overall = sum(float(v.sum()) for v in raw.values()) / sum(v.size for v in raw.values())
    return {name: values / overall for name, values in raw.items()}


def pack_with_data(
    state: State,
    recipe: Recipe,
    *,
    floor: str | None,
    size_bytes: int | None,
    max_error: float | None,
    calibration: int,
) -> tuple[Packed, dict[str, float]]:
    """As ``pack``, with the network and data of a recipe; the figure found is of the validation split.

    Args:
        state: the recipe's network's tensors.
        recipe: whose network and data.
        floor: held on the control split while the step is searched, judged on validation.
        size_bytes: see ``pack``.
        max_error: see ``pack``.
        calibration: examples of the fitted split whose Fisher information weighs the errors; 0 = none.

    Raises:
        ConfigError: the checkpoint is not the network's, or the recipe has no split to hold the floor on.
    """
    model, splits = recipe.build().eval(), recipe.load_data()
    _fits(state, model)
    precision = None
    if calibration:
        model.load_state_dict({n: torch.from_numpy(np.array(v)) for n, v in state.items()})
        examples = splits.fit.inputs[:calibration]
        if recipe.preprocess is not None:
            examples = recipe.preprocess(examples)
        precision = fisher(model, examples)
    aim = None if floor is None else Floor.parse(floor)

    def value(contents: FileContents, split: TensorSet) -> float:
        figures = evaluate(fill(model, contents), split, preprocess=recipe.preprocess)
        assert aim is not None
        return figures.metric(aim.metric)

    judge: Judge | None = None
    if aim is not None:
        held = aim
        judge = lambda contents: held.met(value(contents, splits.control))  # noqa: E731
    packed = pack(
        state,
        size_bytes=size_bytes,
        max_error=max_error,
        good_enough=judge,
        precision=precision,
    )
    if aim is None:
        return packed, {}
    validated = value(packed.contents, splits.validation)
    met = packed.met and aim.met(validated)
    return replace(packed, met=met), {"validation_value": validated}


def _fits(state: State, model: nn.Module) -> None:
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    for name, values in state.items():
        if expected.get(name) != values.shape:
            raise ConfigError(
                f"pack: the checkpoint's {name} has shape {values.shape}, the network's "
                f"{expected.get(name)}; name the network that the checkpoint is of"
            )
