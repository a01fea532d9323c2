"""Multiply-accumulate operations of one forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from epigram.evaluate.modes import evaluating
from epigram.structure.copying import fresh


def macs(model: nn.Module, example: Tensor | tuple[Tensor, ...]) -> int:
    """Multiply-accumulates of one pass over ``example``: give it one example for the usual figure.

    Counts matrix products, convolutions (transposed ones too) and attention, wherever they are
    called; padding counts as if it were data, and biases, normalisation and activations do not
    count. Recurrent layers that run as one fused kernel are not seen. The counter is torch's, which
    counts a multiplication and an addition as two; attention is spelled out for the occasion,
    because the counter does not know its fused kernels.

    Args:
        model: In evaluation mode while it is counted, then as it was.
        example: The input batch, or all positional arguments, on the model's device.

    Example:
        >>> macs(nn.Linear(784, 300), torch.zeros(1, 784))
        235200
    """
    inputs = fresh(example if isinstance(example, tuple) else (example,))
    counter = FlopCounterMode(display=False)
    with evaluating(model), _plain_attention(), counter:
        model(*inputs)
    return int(counter.get_total_flops()) // 2


@contextmanager
def _plain_attention() -> Iterator[None]:
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
