"""Several processes that train replicas of one network (``torchrun``), or just one.

    batch ─┬─ rank 0: its rows ─▶ loss ─▶ gradient ─┐                        ┌─▶ same step
           └─ rank 1: its rows ─▶ loss ─▶ gradient ─┴─ one all-reduce, mean ─┴─▶ same step

Every process does every step, so parameters, decisions and shapes stay the same without being sent: only
gradients and running statistics are, in one message. Nothing has to be wrapped, and nothing notices
when a network becomes smaller. With one process all of it does nothing.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.modules.batchnorm import _NormBase

from epigram.errors import ConfigError
from epigram.structure import state_tensors

T = TypeVar("T")


class Team:
    """This process's place among those that train together.

    Attributes:
        rank: this process's number, from 0.
        size: how many there are.
    """

    def __init__(self) -> None:
        together = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if together else 0
        self.size = dist.get_world_size() if together else 1
        on_device = together and dist.get_backend() == "nccl"
        self._device = torch.device("cuda" if on_device else "cpu")

    @property
    def leads(self) -> bool:
        """Is this the process that writes files and shows progress?"""
        return self.rank == 0

    def seed(self, seed: int) -> int:
        """A seed of noise of this process's own; the leader's is ``seed``."""
        if self.leads:
            return seed
        return int(np.random.SeedSequence([seed, self.rank]).generate_state(1)[0])

    def share(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, float]:
        """This process's rows of a batch, and their share of it."""
        if self.size == 1:
            return x, y, 1.0
        mine = x[self.rank :: self.size]
        return mine, y[self.rank :: self.size], len(mine) / len(x)

    def smallest_share(self, examples: int) -> int:
        """How many of a batch's examples the process with the fewest gets."""
        return examples // self.size

    # --- what is sent --------------------------------------------------------------------------

    @torch.no_grad()
    def average_(self, parameters: Iterable[nn.Parameter], module: nn.Module, share: float) -> None:
        """Gradients and running statistics become their means over all examples of the batch.

        Args:
            parameters: whose gradients, of the mean loss over this process's rows.
            module: holds the normalisations.
            share: of the batch this process had.
        """
        if self.size == 1:
            return
        tensors = [p.grad for p in parameters if p.grad is not None]
        tensors += list(_running_statistics(module))
        for dtype in dict.fromkeys(t.dtype for t in tensors):
            alike = [t for t in tensors if t.dtype == dtype]
            flat = torch.cat([t.reshape(-1) for t in alike]).mul_(share)
            dist.all_reduce(flat)
            parts = torch.split(flat, [t.numel() for t in alike])
            for tensor, part in zip(alike, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def sum_(self, values: Tensor) -> None:
        """The sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)

    def total(self, count: int) -> int:
        """The sum of whole numbers over all processes."""
        values = torch.tensor([count], device=self._device)
        self.sum_(values)
        return int(values)

    def any_of(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag, does any process raise it?"""
        if self.size == 1:
            return flags
        raised = torch.tensor([int(flag) for flag in flags], device=self._device)
        dist.all_reduce(raised, op=dist.ReduceOp.MAX)
        return tuple(bool(flag) for flag in raised.tolist())

    def gathered(self, value: T) -> list[T]:
        """Every process's value, in the order of ranks; only the leader's list is filled."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.gather_object(value, values if self.leads else None)
        return values

    def led(self, act: Callable[[], T]) -> T:
        """What ``act`` returns on the leader, who alone calls it; an error of its is everyone's.

        Raises:
            Exception: whatever ``act`` raised.
        """
        if self.size == 1:
            return act()
        told: list[Any] = [None, None]
        if self.leads:
            try:
                told[0] = act()
            except Exception as error:  # noqa: BLE001 - raised again below, by everyone
                told[1] = _sendable(error)
        dist.broadcast_object_list(told)
        if told[1] is not None:
            raise told[1]
        result: T = told[0]
        return result

    def copy_from_leader_(self, module: nn.Module) -> None:
        """Parameters and buffers become the leader's."""
        if self.size > 1:
            for tensor in state_tensors(module).values():
                dist.broadcast(tensor, 0)

    def check_same(self, module: nn.Module, *, when: str) -> None:
        """Refuse to go on with replicas that differ.

        Raises:
            ConfigError: they do.
        """
        if self.size == 1:
            return
        mine = torch.tensor([_fingerprint(module)], device=self._device)
        all_ = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(all_, mine)
        prints = [int(one) for one in all_]
        if len(set(prints)) > 1:
            odd = [rank for rank, one in enumerate(prints) if one != prints[0]]
            raise ConfigError(
                f"fit: {when}, the networks of processes {odd} differ from that of process 0; expected "
                "callbacks that decide by what all processes know (parameters, EpochEnd), and no "
                "changes by one process alone"
            )


def _running_statistics(module: nn.Module) -> Iterator[Tensor]:
    for child in module.modules():
        if isinstance(child, _NormBase) and child.running_mean is not None:
            yield child.running_mean
            assert child.running_var is not None
            yield child.running_var


def _fingerprint(module: nn.Module) -> int:
    """63 bits of all names, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in state_tensors(module).items():
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return int.from_bytes(digest.digest()[:8], "big") >> 1


def _sendable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - an error with a constructor of its own
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
