"""Everything a run is at one moment: weights, optimiser, random numbers, place and running sums.

A checkpoint is this on disk; the guard's snapshot is this in memory; a failure bundle is this beside
the batch that broke. Bit-identical continuation follows from restoring all of it.
"""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from epigram.structure import extra_state
from epigram.train.learner import Learner, StepLoss
from epigram.train.team import Team

_SUMS = 5  # loss, nll, kl, correct, gradient norm


@dataclass
class Place:
    """Where the run is, and what the current epoch has summed up so far.

    Attributes:
        epoch: epochs completed.
        step: optimiser steps done in the stage.
        batch: steps done within the current epoch.
        examples: examples seen in the current epoch.
        seconds: time spent in the current epoch, over all sessions.
        kl_weight: the last step's.
        has_kl: does the learner report a KL?
        has_accuracy: does the learner report how many examples were right?
        sums: on the device: example-weighted loss, nll, KL, number correct; gradient norms.
    """

    epoch: int = 0
    step: int = 0
    batch: int = 0
    examples: int = 0
    seconds: float = 0.0
    kl_weight: float = 0.0
    has_kl: bool = False
    has_accuracy: bool = False
    sums: Tensor = field(default_factory=lambda: torch.zeros(_SUMS, dtype=torch.float64))

    def add(self, parts: StepLoss, grad_norm: Tensor, examples: int) -> None:
        """Count one step, without waiting for the device."""
        self.has_kl = parts.kl_nats is not None
        self.has_accuracy = parts.correct is not None
        self.kl_weight = parts.kl_weight
        zero = torch.zeros_like(parts.nll)
        row = torch.stack(
            [
                parts.loss.detach() * examples,
                parts.nll * examples,
                zero if parts.kl_nats is None else parts.kl_nats * examples,
                zero if parts.correct is None else parts.correct.to(zero.dtype),
                grad_norm.to(zero.dtype),
            ]
        )
        self.sums += row.to(self.sums.dtype)
        self.examples += examples
        self.step += 1
        self.batch += 1

    def averages(self) -> dict[str, float]:
        """The epoch's averages so far; waits for the device."""
        loss, nll, kl_nats, correct, grad_norm = self.sums.tolist()
        n = max(1, self.examples)
        averages = {"loss": loss / n, "nll": nll / n}
        if self.has_kl:
            averages |= {"kl_nats": kl_nats / n, "kl_weight": self.kl_weight}
        if self.has_accuracy:
            averages["accuracy"] = correct / n
        return averages | {"grad_norm": grad_norm / max(1, self.batch)}

    def pool_(self, team: Team) -> None:
        """The epoch's sums over all processes instead of this one's."""
        self.examples = team.total(self.examples)
        team.sum_(self.sums)
        self.sums[-1] /= team.size  # the gradient's norm is everyone's already

    def begin_epoch(self) -> None:
        """Forget the last epoch's sums."""
        self.batch = self.examples = 0
        self.seconds = 0.0
        self.sums = torch.zeros_like(self.sums)

    def to_dict(self) -> dict[str, Any]:
        """A copy that later steps do not change."""
        return {name: copy.deepcopy(value) for name, value in vars(self).items()}

    def load(self, values: Mapping[str, Any]) -> None:
        """The inverse of ``to_dict``; the sums stay on their device."""
        for name, value in values.items():
            if name == "sums":
                self.sums = value.to(self.sums.device, self.sums.dtype, copy=True)
            else:
                setattr(self, name, value)


def sums_on(device: torch.device) -> Tensor:
    """Zeroed running sums; fp64 where the device has it."""
    dtype = torch.float32 if device.type == "mps" else torch.float64
    return torch.zeros(_SUMS, dtype=dtype, device=device)


def capture(
    learner: Learner, optimizer: torch.optim.Optimizer, place: Place, device: torch.device
) -> dict[str, Any]:
    """The run's state in plain containers; its tensors are the live ones (deepcopy to keep it)."""
    return {
        "learner": learner.state(),
        "module": _module_state(learner.module),
        "optimizer": optimizer.state_dict(),
        "random": random_state(device),
        "place": place.to_dict(),
    }


def restore(
    state: Mapping[str, Any],
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    place: Place,
    device: torch.device,
) -> None:
    """Put the run back to ``state``: first shapes, then tensors, then random numbers."""
    learner.load_state(state["learner"])
    module = copy.copy(state["module"])
    for name, value in extra_state(learner.module).items():
        module.setdefault(name, value)
    learner.module.load_state_dict(module)
    optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
    place.load(state["place"])
    set_random_state(state["random"], device)


def random_state(device: torch.device) -> dict[str, Any]:
    """The states of torch's (CPU and device), numpy's and Python's global generators."""
    numpy_state: dict[str, Any] = np.random.get_state(legacy=False)  # noqa: NPY002
    version, numbers, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "device": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": {**numpy_state, "state": _as_numbers(numpy_state["state"])},
        "python": [version, list(numbers), gauss],
    }


def set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """The inverse of ``random_state``."""
    torch.set_rng_state(state["torch"].cpu())
    if state["device"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["device"].cpu(), device)
    key = np.array(state["numpy"]["state"]["key"], np.uint32)
    numpy_state = {**state["numpy"], "state": {**state["numpy"]["state"], "key": key}}
    np.random.set_state(numpy_state)  # noqa: NPY002 - the global generator is what is put back
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators, and put them back as they were when the block ends."""
    before = random_state(device)
    try:
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - the global generator is what is meant
        random.seed(seed)
        yield
    finally:
        set_random_state(before, device)


def _module_state(module: nn.Module) -> dict[str, Any]:
    """Its state without such extra state as can only be pickled; at a restore that stays the module's own."""
    state = module.state_dict()
    for name, value in extra_state(module).items():
        if not _is_plain(value):
            del state[name]
    return state


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, (*value, *value.values())))
    return value is None or isinstance(value, bool | int | float | str | Tensor)


def _as_numbers(state: Mapping[str, Any]) -> dict[str, Any]:
    return {"key": state["key"].tolist(), "pos": int(state["pos"])}
