"""Forward passes without chance: two networks can only be compared if nothing is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from epigram.structure.functions import EveryFunction

if TYPE_CHECKING:
    from collections.abc import Callable

_DRAWN = frozenset(
    [
        "rand",
        "rand_like",
        "randn",
        "randn_like",
        "normal",
        "normal_",
        "uniform_",
        "bernoulli",
        "bernoulli_",
        "exponential_",
    ]
)
LOW, HIGH = 0.05, 0.95
"""What is drawn where each number is drawn by itself: below and above most thresholds."""


class WithoutDropout(EveryFunction):
    """``F.dropout(x)`` drops even in eval mode; here it does not."""

    def call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if "dropout" in getattr(func, "__name__", "") and args:
            return args[0]
        return func(*args, **kwargs)


class WithoutChance(WithoutDropout):
    """In train mode, numbers drawn for each unit are all the same, however many units there are.

    Attributes:
        drew: has anything been drawn?
    """

    def __init__(self, drawn: float = LOW) -> None:
        super().__init__()
        self.drawn, self.drew = drawn, False

    def call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = getattr(func, "__name__", "")
        if name == "scaled_dot_product_attention":
            args = args[:4] + (0.0,) * len(args[4:5]) + args[5:]
            kwargs |= {"dropout_p": 0.0} if "dropout_p" in kwargs else {}
        result = super().call(func, args, kwargs)
        if name in _DRAWN and isinstance(result, torch.Tensor):
            result.fill_(self.drawn)
            self.drew = True
        return result


def calm_layers_(network: nn.Module) -> None:
    """Layers of torch that draw inside of one operation no longer do, in place."""
    for module in network.modules():
        if isinstance(module, nn.MultiheadAttention | nn.RNNBase):
            module.dropout = 0.0
        elif isinstance(module, nn.RReLU):
            module.lower = module.upper = (module.lower + module.upper) / 2
