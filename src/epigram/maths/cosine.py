"""The cosine transform of kernels as tensors; its tables are those of the file (``epigram.cosine``)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from epigram.cosine import BITS, table


def kernels_of(coefficients: Float[Tensor, "*n h w"]) -> Float[Tensor, "*n h w"]:
    """Kernels from coefficients.

    In float64 where there is one: steps times symbols are then transformed without rounding, and the outcome is what a
    reader of the file gets, to the bit. Autocast leaves float64 alone.
    """
    wide = coefficients.to(_wide(coefficients))
    tall, broad = (_table(size, wide) for size in coefficients.shape[-2:])
    return (tall.T @ wide @ broad).to(coefficients.dtype)


def coefficients_of(kernels: Float[Tensor, "*n h w"]) -> Float[Tensor, "*n h w"]:
    """The inverse, up to the rounding of the tables (2**-15)."""
    wide = kernels.to(_wide(kernels))
    tall, broad = (_table(size, wide) for size in kernels.shape[-2:])
    return (tall @ wide @ broad.T).to(kernels.dtype)


def _wide(like: Tensor) -> torch.dtype:
    return torch.float32 if like.device.type == "mps" else torch.float64


def _table(places: int, like: Tensor) -> Tensor:
    return torch.tensor(table(places) * 2.0**-BITS, dtype=like.dtype, device=like.device)
