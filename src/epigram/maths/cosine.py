"""The cosine transform of kernels as tensors; its tables are those of the file (``epigram.cosine``)."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from epigram.cosine import UNIT, table


def kernels_of(coefficients: Float[Tensor, "*n h w"]) -> Float[Tensor, "*n h w"]:
    """Kernels from coefficients.

    In float64 where the device has it: steps times symbols are then transformed without rounding, and the outcome is what
    a reader of the file gets, to the bit.
    """
    return _times(coefficients, _product(*coefficients.shape[-2:], *_place(coefficients)))


def coefficients_of(kernels: Float[Tensor, "*n h w"]) -> Float[Tensor, "*n h w"]:
    """The inverse, up to the rounding of the tables (2**-15)."""
    return _times(kernels, _product(*kernels.shape[-2:], *_place(kernels)).T)


def _times(values: Tensor, product: Tensor) -> Tensor:
    with torch.autocast(values.device.type, enabled=False):
        flat = values.to(product.dtype).flatten(-2) @ product
    return flat.view(values.shape).to(values.dtype)


def _place(like: Tensor) -> tuple[torch.dtype, torch.device]:
    return torch.float32 if like.device.type == "mps" else torch.float64, like.device


@cache
def _product(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Of both tables, ``[frequency, place]``, both flat; made once, so that no step waits for the device."""
    with torch.inference_mode(mode=False):
        return torch.tensor(np.kron(table(height), table(width)) * UNIT, dtype=dtype, device=device)
