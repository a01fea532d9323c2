"""Post-training coding with a network and data: what its weights are worth, and what its file is worth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from epigram.data import TensorSet
from epigram.errors import ConfigError, FloorError
from epigram.pipeline.job import Job
from epigram.pipeline.packing import Judge, Packed, State, pack
from epigram.pipeline.recipe import Recipe
from epigram.records import FileContents, Floor
from epigram.structure import state_tensors


def fill(model: nn.Module, contents: FileContents) -> nn.Module:
    """Put a file's values into a module of the same shapes, in place; returns it."""
    state = state_tensors(model)
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
    if not parameters:
        return {}
    sums = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for start in range(0, len(inputs), batch):
        logits = model(inputs[start : start + batch])
        drawn = torch.multinomial(logits.detach().softmax(1), 1, generator=generator)[:, 0]
        loss = nn.functional.cross_entropy(logits, drawn, reduction="sum")
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        for name, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
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
    """As ``pack``, with the network and data of a recipe; the figures found are the floor's metric by split.

    Args:
        state: the recipe's network's tensors.
        recipe: whose network and data.
        floor: control steers the search for the coarsest step that holds it; validation judges that file and, while
            it fails there, finer ones.
        size_bytes: see ``pack``.
        max_error: see ``pack``.
        calibration: examples of the fitted split whose Fisher information weighs the errors; 0 = none.

    Raises:
        ConfigError: the checkpoint is not the network's, or the floor is none that can be held.
        DataError: the data do not fit the network.
        FloorError: the checkpoint itself misses the floor on validation.
    """
    aim = None if floor is None else Floor.parse(floor)
    job = Job(recipe, recipe.settings, Path(), aim, None, None)
    model = job.build().eval()
    _check_fits(state, model)
    job.check_floor()
    model.load_state_dict(
        {n: torch.from_numpy(np.array(v)) for n, v in state.items()}, strict=False
    )
    steering = None if aim is None else _held_on_control(job, aim, model)
    precision = None
    if calibration:
        examples = job.splits.fit.inputs[:calibration]
        if recipe.preprocess is not None:
            examples = recipe.preprocess(examples)
        precision = fisher(model, examples)

    def value(contents: FileContents, split: TensorSet) -> float:
        return job.measure(split)(fill(model, contents))

    def judge_by(held: Floor | None, split: TensorSet) -> Judge | None:
        return None if held is None else lambda contents: held.margin(value(contents, split))

    packed = pack(
        state,
        size_bytes=size_bytes,
        max_error=max_error,
        good_enough=judge_by(steering, job.splits.control),
        judge=judge_by(aim, job.splits.validation),
        precision=precision,
    )
    if aim is None:
        return packed, {}
    parts = {"validation": job.splits.validation, "control": job.splits.control}
    figures = {f"{n}_value": value(packed.contents, part) for n, part in parts.items()}
    if not packed.met:
        packed = replace(packed, reason=_why_not(aim, **figures))
    return packed, figures


def _held_on_control(job: Job, floor: Floor, model: nn.Module) -> Floor:
    """The floor or, where the checkpoint itself misses it on control, as much of a loss as validation can bear.

    Raises:
        FloorError: the checkpoint misses the floor on validation, so that no file of it can be expected to hold it.
    """
    reached = job.measure(job.splits.validation)(model)
    if not floor.met(reached):
        raise FloorError(
            f"floor: {floor} asks for more than the checkpoint reaches: {floor.metric} {reached:g} on the "
            "validation split. Lower the floor, or train the network longer"
        )
    steering = job.measure(job.splits.control)(model)
    return floor if floor.met(steering) else replace(floor, value=floor.value + steering - reached)


def _why_not(floor: Floor, *, validation_value: float, control_value: float) -> str:
    return (
        f"{floor.metric} {validation_value:g} on validation, {control_value:g} on control: not even the finest "
        "step of the weights holds it (vectors have a step of their own); lower the floor"
    )


def _check_fits(state: State, model: nn.Module) -> None:
    """Is this a checkpoint of the network, and of all of it?

    Only counters and other whole numbers may be missing, and a tensor that another name tells as well (tied weights).
    """
    expected = state_tensors(model)
    for name, values in state.items():
        if name not in expected:
            raise ConfigError(
                f"pack: the checkpoint's {name} is not in {type(model).__name__}; name the network that the "
                "checkpoint is of"
            )
        if tuple(expected[name].shape) != values.shape:
            raise ConfigError(
                f"pack: the checkpoint's {name} has shape {values.shape}, the network's "
                f"{tuple(expected[name].shape)}; name the network that the checkpoint is of"
            )
    told = {_place(expected[name]) for name in state}
    missing = [
        name
        for name, tensor in expected.items()
        if tensor.is_floating_point() and _place(tensor) not in told and name not in state
    ]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ConfigError(
            f"pack: the checkpoint lacks {', '.join(missing[:3])}{more} of {type(model).__name__}; "
            "expected all its weights: name the network that the checkpoint is of, or save all of it"
        )


def _place(tensor: Tensor) -> tuple[int, torch.Size]:
    """Equal for names of the same memory."""
    return tensor.data_ptr(), tensor.shape
