"""The draw of a forward pass once more, where a part of the pass is computed again (gradient checkpointing).

    forward    ── draw, from place s ──▶ ┤block├ reads at place r ──▶        noted: s, {r, ...}
    backward   the block again, random numbers set back: reads at place r  ──▶ the draw from place s

A place is a state of the random generator. ``torch.utils.checkpoint`` sets it back for the block, and so it tells
which forward pass is repeated. No tensor of the pass is kept, and the draw is made anew from the parameters, so
that gradients reach them whichever graph the block is part of.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from epigram.errors import UnsupportedModelError

_PASSES = 16
"""So many forward passes may wait for their backward pass, where blocks of them are to be computed again."""


@dataclass
class Noted:
    """A draw that was shared in a forward pass.

    Attributes:
        batch: the number of examples.
        start: the place from which it was drawn; None where nobody can say.
        reads: where checkpointed blocks read it.
    """

    batch: int
    start: Tensor | None
    reads: set[bytes] = field(default_factory=set)


class RecentDraws:
    """What is noted of a scale's last forward passes; copies and pickles of it are empty."""

    def __init__(self) -> None:
        self.any = False
        self._noted: deque[Noted] = deque(maxlen=_PASSES)

    def __reduce__(self) -> tuple[type[RecentDraws], tuple[()]]:
        return RecentDraws, ()

    def add(self, noted: Noted) -> None:
        """Note a draw; the oldest is forgotten."""
        self.any = True
        self._noted.append(noted)

    def read_at(self, place: Tensor | None) -> Noted:
        """The draw that a checkpointed block read there.

        Raises:
            UnsupportedModelError: none, or several different ones.
        """
        key = None if place is None else digest(place)
        found = [noted for noted in self._noted if key in noted.reads and noted.start is not None]
        if len({digest(noted.start) for noted in found if noted.start is not None}) == 1:
            return found[-1]
        raise UnsupportedModelError(
            "a block of a twin is computed again in backward (torch.utils.checkpoint), and "
            f"{'more than one forward pass began' if found else 'no forward pass is known'} at this place of "
            f"the random numbers: its scales would be drawn anew. Expected preserve_rng_state=True, at most "
            f"{_PASSES} forward passes before a backward pass, the twin itself called (not parts of it), "
            "random seeds that do not repeat, and no compiled block inside a checkpoint"
        )


def place_of(device: torch.device) -> Tensor | None:
    """The state of the device's random generator; None while a graph of CUDA kernels is captured."""
    if device.type in ("cpu", "meta"):
        return torch.get_rng_state()
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        return None
    state: Tensor = torch.get_device_module(device).get_rng_state(device)
    return state


def digest(place: Tensor) -> bytes:
    """A place in 16 bytes."""
    return hashlib.blake2b(place.cpu().numpy().tobytes(), digest_size=16).digest()


@contextmanager
def drawing_from(place: Tensor, device: torch.device) -> Iterator[None]:
    """Random numbers from another place; where they were is restored afterwards."""
    cpu = device.type in ("cpu", "meta")
    module = torch.random if cpu else torch.get_device_module(device)
    where = () if cpu else (device,)
    before = module.get_rng_state(*where)
    try:
        module.set_rng_state(place, *where)
        yield
    finally:
        module.set_rng_state(before, *where)


def backward_pass() -> int:
    """The number of the backward pass that is running in this thread; -1 for none."""
    return torch._C._current_graph_task_id()  # noqa: SLF001 - what torch.utils.checkpoint asks, too


def in_checkpoint() -> bool:
    """Within a forward pass with gradients: is a block running that may be computed again?"""
    return not torch.is_grad_enabled() or _saving_is_watched()


@contextmanager
def outside_of_checkpoint() -> Iterator[None]:
    """With gradients, and what autograd saves is kept: a checkpoint neither counts it nor computes it again."""
    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        if _saving_is_watched():
            hooks = torch.autograd.graph.saved_tensors_hooks(lambda x: x.detach(), lambda x: x)
            stack.enter_context(hooks)
        yield


def _saving_is_watched() -> bool:
    return torch._C._autograd._top_saved_tensors_default_hooks(True) is not None  # noqa: SLF001
