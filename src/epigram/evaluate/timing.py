"""How long a forward pass takes: measured in turn, so that a busy machine is fair to all."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from statistics import median

import torch
from torch import Tensor, nn

from epigram.errors import ConfigError
from epigram.evaluate.modes import evaluating
from epigram.structure.copying import fresh

_WARM_UP = 3
_MAX_CALLS = 10_000


def latency(
    models: Mapping[str, nn.Module],
    example: Tensor | tuple[Tensor, ...],
    *,
    rounds: int = 30,
    min_ms: float = 1.0,
) -> dict[str, float]:
    """Median time of one forward pass of each model, in milliseconds.

    The models take turns in every round, in alternating order; a turn repeats the pass until it
    lasts about ``min_ms``, so that the clock's resolution does not matter.

    Args:
        models: By name; each in evaluation mode while it is measured, then as it was.
        example: The input batch, or all positional arguments, on the models' device.
        rounds: Turns for each model.
        min_ms: Shortest turn.

    Raises:
        ConfigError: no rounds.
    """
    if rounds < 1:
        raise ConfigError(f"latency.rounds: got {rounds}, expected 1 or more")
    inputs = fresh(example if isinstance(example, tuple) else (example,))
    turns: dict[str, list[float]] = {name: [] for name in models}
    with evaluating(*models.values()):
        calls = {name: _calls(model, inputs, min_ms) for name, model in models.items()}
        for number in range(rounds):
            for name in sorted(models, reverse=number % 2 == 1):
                turns[name].append(_turn_ms(models[name], inputs, calls[name]))
    return {name: median(values) for name, values in turns.items()}


def _calls(model: nn.Module, inputs: tuple[Tensor, ...], min_ms: float) -> int:
    _turn_ms(model, inputs, _WARM_UP)
    once = _turn_ms(model, inputs, 1)
    return min(_MAX_CALLS, max(1, math.ceil(min_ms / max(once, 1e-6))))


def _turn_ms(model: nn.Module, inputs: tuple[Tensor, ...], calls: int) -> float:
    _wait(inputs)
    start = time.perf_counter_ns()
    for _ in range(calls):
        model(*inputs)
    _wait(inputs)
    return (time.perf_counter_ns() - start) / 1e6 / calls


def _wait(inputs: tuple[Tensor, ...]) -> None:
    if inputs and inputs[0].device.type != "cpu":
        torch.accelerator.synchronize(inputs[0].device)
