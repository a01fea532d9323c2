"""One stage while it is being trained, and one step of it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from epigram.train.learner import Learner, StepLoss
from epigram.train.optimizers import build_optimizer, match_layout_, set_learning_rate_
from epigram.train.schedule import Schedule
from epigram.train.settings import TrainSettings
from epigram.train.state import Place, capture, restore, sums_on
from epigram.train.team import Team


@dataclass
class Run:
    """Learner, optimiser and place of one stage; ``step`` moves all three.

    A step is three calls, so that a replay can look in between: ``forward``, ``backward``, ``update``.
    None of them waits for the device.
    """

    learner: Learner
    settings: TrainSettings
    schedule: Schedule
    device: torch.device
    team: Team = field(default_factory=Team)
    optimizer: torch.optim.Optimizer = field(init=False)
    place: Place = field(init=False)
    _share: float = field(init=False, default=1.0)
    _examples: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._lay_out_module_()
        self.optimizer = build_optimizer(self.learner.parameter_groups(), self.settings)
        self.place = Place(sums=sums_on(self.device))

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What the optimiser moves."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def step(self, x: Tensor, y: Tensor) -> None:
        """One optimiser step on one batch."""
        parts = self.forward(x, y)
        grad_norm = self.backward(parts)
        self.update(parts, grad_norm)

    def forward(self, x: Tensor, y: Tensor) -> StepLoss:
        """The loss of this process's rows of the batch, under autocast if the settings say so."""
        x, y, self._share = self.team.share(x, y)
        self._examples = len(x)
        if self.settings.channels_last and x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        weight = self.schedule.kl_weight(self.place.step)
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            return self.learner.loss(x, y, kl_weight=weight)

    def backward(self, parts: StepLoss) -> Tensor:
        """The batch's gradients, clipped if the settings say so; returns their norm before clipping."""
        parts.loss.backward()  # type: ignore[no-untyped-call]
        parameters = self.parameters
        self.team.average_(parameters, self.learner.module, self._share)
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not gradients:
            return torch.zeros((), device=self.device)
        grad_norm = get_total_norm(gradients)
        if self.settings.grad_clip is not None:
            clip_grads_with_norm_(parameters, self.settings.grad_clip, grad_norm)
        return grad_norm

    def update(self, parts: StepLoss, grad_norm: Tensor) -> None:
        """Move the parameters, enforce bounds, count the step."""
        set_learning_rate_(self.optimizer, self.schedule.learning_rate(self.place.step))
        self.optimizer.step()
        self.learner.after_step(clamp=self.settings.clamp)
        self.place.add(parts, grad_norm, self._examples)

    def healthy(self) -> bool:
        """Are all sums of this epoch and all parameters finite, everywhere? Waits for the device.

        A sum is non-finite as soon as one of its terms was, so a look now and then misses nothing.
        """
        largest = get_total_norm([p.detach() for p in self.parameters], norm_type=float("inf"))
        good = bool(torch.isfinite(self.place.sums).all() & torch.isfinite(largest))
        return not self.team.any_of(not good)[0]

    def state(self) -> dict[str, Any]:
        """The live state; see ``state.capture``."""
        return capture(self.learner, self.optimizer, self.place, self.device)

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to ``state``; see ``state.restore``."""
        restore(state, self.learner, self.optimizer, self.place, self.device)
        self.lay_out_()

    def lay_out_(self) -> None:
        """Weights and the optimiser's memory in the order the settings ask for; values stay.

        Needed whenever tensors were replaced: after units have left, and after a restore.
        """
        self._lay_out_module_()
        match_layout_(self.optimizer)

    def _lay_out_module_(self) -> None:
        if self.settings.channels_last:
            self.learner.module.to(memory_format=torch.channels_last)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.settings.amp == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()
