"""Batches of a set in memory: order and augmentation are a pure function of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from epigram.data.augment import Augmentation
from epigram.data.tensor_set import TensorSet
from epigram.errors import ConfigError

Batch: TypeAlias = tuple[Tensor, Tensor]

_ORDER, _AUGMENT = 0, 1  # independent random streams of one (seed, epoch)


def batches(
    data: TensorSet,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    preprocess: Callable[[Tensor], Tensor] | None = None,
    augment: Augmentation | None = None,
    device: torch.device | str = "cpu",
    drop_last: bool = False,
    first_batch: int = 0,
) -> Iterator[Batch]:
    """The batches of one epoch, shuffled, on ``device``.

    The same (seed, epoch) gives the same batches, to the bit, whatever was drawn before and
    wherever one starts; the augmentation of an example depends on neither the batch size nor the
    device. Random numbers are drawn once per epoch, on the CPU; a batch is then a handful of
    kernels, and the host never waits for the device.

    A batch of 128 MNIST images takes 0.04 ms on a CPU core, 0.11 ms with shifts
    (``benchmarks/data_path.py`` measures it beside a training step).

    Args:
        data: The set; moved to ``device`` once per call (move it yourself to save that).
        batch_size: Examples in a batch; the last one may be smaller.
        seed: The run's seed, 0 or more.
        epoch: Counted from 0.
        preprocess: Applied to each batch of inputs, on the device.
        augment: Applied to the raw inputs before that.
        device: Where the batches are made.
        drop_last: Leave out a last batch that is not full.
        first_batch: Skip the batches before this one (to continue in the middle of an epoch).

    Raises:
        ConfigError: a number out of range, or no batch at all.
    """
    count = batches_per_epoch(len(data), batch_size=batch_size, drop_last=drop_last)
    if count == 0:
        raise ConfigError(
            f"batches: batch_size {batch_size} is more than the {len(data)} examples of "
            f"{data.name}, and drop_last leaves nothing; expected a smaller batch_size"
        )
    if first_batch < 0:
        raise ConfigError(f"batches.first_batch: got {first_batch}, expected 0 or more")
    order = epoch_order(len(data), seed=seed, epoch=epoch).to(device)
    draws = None
    if augment is not None:
        generator = _generator(seed, epoch, _AUGMENT)
        draws = augment.draw(len(data), generator=generator).to(device)
    wanted = range(first_batch, count)
    return _generate(data.to(device), order, wanted, batch_size, preprocess, augment, draws)


def batches_per_epoch(examples: int, *, batch_size: int, drop_last: bool = False) -> int:
    """How many batches an epoch has.

    Raises:
        ConfigError: ``batch_size`` is not positive.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size: got {batch_size}, expected 1 or more")
    return examples // batch_size if drop_last else -(-examples // batch_size)


def epoch_order(examples: int, *, seed: int, epoch: int) -> Int64[Tensor, " examples"]:
    """The order in which an epoch visits the examples.

    Raises:
        ConfigError: ``seed`` or ``epoch`` is negative.
    """
    return torch.randperm(examples, generator=_generator(seed, epoch, _ORDER))


def _generator(seed: int, epoch: int, stream: int) -> torch.Generator:
    if seed < 0 or epoch < 0:
        raise ConfigError(f"batches: got seed {seed} and epoch {epoch}, expected 0 or more")
    mixed = np.random.SeedSequence([seed, epoch, stream]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(mixed[0]))


def _generate(
    data: TensorSet,
    order: Tensor,
    wanted: range,
    batch_size: int,
    preprocess: Callable[[Tensor], Tensor] | None,
    augment: Augmentation | None,
    draws: Tensor | None,
) -> Iterator[Batch]:
    for number in wanted:
        rows = slice(number * batch_size, (number + 1) * batch_size)
        index = order[rows]
        x = data.inputs.index_select(0, index)
        if augment is not None and draws is not None:
            x = augment.apply(x, draws[rows])
        if preprocess is not None:
            x = preprocess(x)
        yield x, data.targets.index_select(0, index)
