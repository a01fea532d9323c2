"""Attention that cannot hide its weights: a softmax over one place is 1 whatever the scores are.

Trials are blind to what happens to such scores. Where that is so, they run with a silent place beside the
others: ``exp(x_i) / (1 + sum_j exp(x_j))``. A removal that leaves all scores alone is exact with either
softmax; one that changes their scale is seen.
"""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from epigram.structure.copying import fresh
from epigram.structure.trace import evaluating

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import nn
    from torch._ops import OpOverload

_SOFTMAX = (torch.ops.aten._softmax, torch.ops.aten._safe_softmax)  # noqa: SLF001 - as attention calls them


def one_place_only(network: nn.Module, inputs: tuple[Any, ...]) -> bool:
    """Does any softmax go over a single place? False where the network cannot be watched."""
    seen = _Softmax(silent=False)
    try:
        with evaluating(network), warnings.catch_warnings(), _single_steps(), seen:
            warnings.simplefilter("ignore")
            network(*fresh(inputs))
    except Exception:  # noqa: BLE001 - what runs by itself may not run when it is watched
        return False
    return seen.single


@contextlib.contextmanager
def with_a_silent_place() -> Iterator[None]:
    """Every softmax, that of attention too, has a place more, whose score and value are zero."""
    with _single_steps(), _Softmax(silent=True):
        yield


@contextlib.contextmanager
def _single_steps() -> Iterator[None]:
    """Attention as product, softmax and product, instead of one operation."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


class _Softmax(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches every softmax; ``single``: was one over a single place?"""

    def __init__(self, *, silent: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.silent = silent
        self.single: bool = False

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket not in _SOFTMAX:
            return result
        scores, dim = args[0], args[1]
        self.single |= scores.dim() > 0 and scores.shape[dim] == 1
        if self.silent and scores.dim() > 0:
            return result * torch.logsumexp(scores, dim, keepdim=True).sigmoid().to(result.dtype)
        return result
