"""torch's own transformers on the way they are written, without the shortcuts that values decide on."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.modules import transformer

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def without_fast_path() -> Iterator[None]:
    """Keep torch's fused encoder kernels from computing with layers' weights instead of calling them.

    Nor are padded sequences made nested tensors.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def without_mask_detection() -> Iterator[None]:
    """Keep encoders and decoders from comparing a mask with the causal one, which cannot be exported.

    What they find is a hint besides the mask, which says the same: it makes no difference to a value.
    """
    before = transformer._detect_is_causal_mask  # noqa: SLF001 - there is no public switch
    try:
        transformer._detect_is_causal_mask = _as_told  # noqa: SLF001
        yield
    finally:
        transformer._detect_is_causal_mask = before  # noqa: SLF001


def _as_told(mask: Any, is_causal: bool | None = None, size: int | None = None) -> bool:
    del mask, size
    return is_causal is True
