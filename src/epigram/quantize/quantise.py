"""A small network's tensors to coded tensors at one price."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from epigram.errors import ConfigError
from epigram.quantize.rate_distortion import Floats, choose_symbols, step_for_price
from epigram.records import BoolArray, CodedTensor, RawTensor


@dataclass(frozen=True, eq=False)
class ToQuantise:
    """One tensor as the bits see it.

    Attributes:
        name: its state_dict name.
        values: its values in the small network.
        dense_shape: the original's shape.
        std: the likelihood's standard deviations; None = the tensor is stored as it is.
        live: positions of axis 1 that are not dead; None = all are.
    """

    name: str
    values: Floats
    dense_shape: tuple[int, ...]
    std: Floats | None = None
    live: BoolArray | None = None


def quantise(
    tensors: Mapping[str, ToQuantise],
    *,
    price: float,
    representable_step: Callable[[float], float],
    sweeps: int = 3,
) -> tuple[CodedTensor | RawTensor, ...]:
    """Every tensor at its step for ``price``; dead positions take no symbols.

    Args:
        tensors: by name, in the order of the state_dict.
        price: λ, nats of likelihood per nat of code.
        representable_step: rounds a step to one that the file can say.
        sweeps: see ``choose_symbols``.

    Raises:
        ConfigError: a value or a standard deviation is not finite or not positive.
    """
    return tuple(
        _quantise_one(tensor, price, representable_step, sweeps) for tensor in tensors.values()
    )


def _quantise_one(
    tensor: ToQuantise,
    price: float,
    representable_step: Callable[[float], float],
    sweeps: int,
) -> CodedTensor | RawTensor:
    if tensor.std is None:
        return RawTensor(tensor.name, tensor.dense_shape, tensor.values)
    if not np.isfinite(tensor.values).all():
        raise ConfigError(f"quantise: {tensor.name} holds a value that is not finite")
    symbols = np.zeros(tensor.values.shape, np.int32)
    where = (slice(None), tensor.live) if tensor.live is not None else (slice(None),)
    values, std = tensor.values[where], tensor.std[where]
    if not values.size:
        return CodedTensor(tensor.name, tensor.dense_shape, symbols, 1.0, live=tensor.live)
    if not (np.isfinite(std).all() and (std > 0).all()):
        raise ConfigError(
            f"quantise: {tensor.name} has a standard deviation that is not positive and finite"
        )
    step = representable_step(step_for_price(std, price))
    symbols[where] = choose_symbols(values, std, step=step, price=price, sweeps=sweeps)
    return CodedTensor(tensor.name, tensor.dense_shape, symbols, step, live=tensor.live)
