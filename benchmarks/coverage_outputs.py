"""What networks of coverage.py put out, and whether two of them put out the same."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from epigram.errors import RemovalError


class Heard(nn.Module):
    """A network that returns what some of its modules put out; its own output if there are none."""

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, *inputs: Any) -> Any:
        """What these modules put out in one call."""
        if not self.names:
            return self.network(*inputs)
        found: list[Any] = []
        with contextlib.ExitStack() as stack:
            for name in self.names:
                module = self.network.get_submodule(name)
                hook = module.register_forward_hook(lambda *call: found.append(call[-1]))
                stack.callback(hook.remove)
            self.network(*inputs)
        return found


def change(model: nn.Module, masked: nn.Module, inputs: tuple[Any, ...]) -> float:
    """How much the removal changes the outputs, relative to the largest; 1 if it changes their number.

    Raises:
        FloatingPointError: it changes nothing, or leaves nothing to compare (a detector that finds no
            box), so that equality would prove nothing.
    """
    with torch.no_grad():
        pairs = list(zip(tensors(masked(*inputs)), tensors(model(*inputs)), strict=True))
    if not any(a.numel() for a, _ in pairs):
        raise FloatingPointError("all outputs are empty: the comparison would be empty")
    if any(a.shape != b.shape for a, b in pairs):  # boxes found by other numbers
        return 1.0
    largest = max(
        (float((a - b).abs().max() / b.abs().max()) for a, b in pairs if b.numel()), default=0.0
    )
    if not largest > 1e-7:
        raise FloatingPointError("the removal changes nothing: the comparison would be empty")
    return float(f"{largest:.3g}")


def doubled(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Floating-point tensors in double precision."""
    return pytree.tree_map(
        lambda x: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x, inputs
    )


def tensors(outputs: Any) -> list[Tensor]:
    """Floating-point tensors of an output, however it is packed."""
    leaves = pytree.tree_leaves(outputs)
    return [x for x in leaves if isinstance(x, Tensor) and x.is_floating_point()]


def same_outputs(twin: nn.Module, model: nn.Module, inputs: tuple[Any, ...]) -> None:
    """The twin's mean output is the original's.

    Raises:
        RemovalError: it is not.
    """
    with torch.no_grad():
        ours, theirs = tensors(twin(*inputs)), tensors(model(*inputs))
    for a, b in zip(ours, theirs, strict=True):
        if a.shape == b.shape and not b.numel():
            continue
        if a.shape != b.shape or not torch.allclose(
            a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max().clamp_min(1))
        ):
            raise RemovalError(
                f"the twin's eval() differs from the network by {float((a - b).abs().max()):.3g}"
            )
