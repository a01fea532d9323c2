"""Bayesian networks: a variational twin trained by the negative ELBO, shrinking as it goes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from epigram.errors import ConfigError
from epigram.objective import ELBO, kl_in_fp32
from epigram.train.distillation import Distillation, likelihood
from epigram.train.learner import EpochCallback, EpochEnd, LossFn, StepLoss
from epigram.train.optimizers import ParameterGroup, slice_optimizer_state_

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Which quantiles of the removability are logged per group."""


@runtime_checkable
class Cut(Protocol):
    """Which entries of an axis of a parameter stayed."""

    @property
    def parameter(self) -> nn.Parameter: ...
    @property
    def axis(self) -> int: ...
    @property
    def index(self) -> Tensor: ...


@runtime_checkable
class Twin(Protocol):
    """What the learner needs of a variational twin, which is also an ``nn.Module``."""

    def kl_nats(self) -> Tensor: ...
    def clamp_(self) -> None: ...
    def removability(self) -> Mapping[str, NDArray[Any]]: ...
    def units_kept(self) -> Mapping[str, tuple[int, int]]: ...
    def effective_parameters(self) -> int: ...
    def kept_masks(self) -> Mapping[str, NDArray[np.bool_]]: ...
    def named_roles(self) -> Mapping[str, str]: ...
    def shrink_(self, keep: Mapping[str, NDArray[np.bool_]]) -> Iterable[Cut]: ...


class BayesianLearner:
    """A twin trained by the negative ELBO.

    Args:
        twin: the variational twin, an ``nn.Module``.
        num_train_examples: N; ``fit`` refuses any other than its data set's length.
        loss_fn: (outputs, targets) -> mean NLL per example.
        distillation: a teacher and its share in the likelihood.
        on_epoch: called after every epoch with the control split's metrics and the optimiser; it
            may shrink the twin (``learner.shrink_(keep, optimizer=end.optimizer)``) and set
            ``kl_multiplier``. What it returns is logged.

    Attributes:
        kl_multiplier: multiplies the KL weight of the settings; a controller of the floor sets it.
            It is part of the checkpoint.
    """

    def __init__(
        self,
        twin: nn.Module,
        num_train_examples: int,
        *,
        loss_fn: LossFn = F.cross_entropy,
        distillation: Distillation | None = None,
        on_epoch: EpochCallback | None = None,
    ) -> None:
        if not callable(getattr(twin, "kl_nats", None)):
            raise ConfigError(
                f"BayesianLearner: got a {type(twin).__name__} without kl_nats(), expected a "
                "variational twin; convert the network first"
            )
        self.module = twin
        self.twin = cast(Twin, twin)
        self.elbo = ELBO(self.twin, num_train_examples)
        self.loss_fn = loss_fn
        self.distillation = distillation
        self.on_epoch = on_epoch
        self.kl_multiplier = 1.0

    @property
    def num_train_examples(self) -> int:
        """N, what the KL is divided by."""
        return self.elbo.num_train_examples

    def parameter_groups(self) -> list[ParameterGroup]:
        roles = self.twin.named_roles()
        by_role: dict[str, list[nn.Parameter]] = {}
        for name, parameter in self.module.named_parameters():
            if parameter.requires_grad:
                by_role.setdefault(roles.get(name, "mean"), []).append(parameter)
        return [{"params": by_role[role], "role": role} for role in sorted(by_role)]

    def loss(self, x: Tensor, y: Tensor, *, kl_weight: float) -> StepLoss:
        asked = likelihood(self.module, x, y, loss_fn=self.loss_fn, distillation=self.distillation)
        kl_nats = kl_in_fp32(self.twin)
        self.elbo.kl_weight = kl_weight * self.kl_multiplier
        loss = self.elbo.combine(asked.loss, kl_nats)
        return StepLoss(loss, asked.nll, kl_nats.detach(), asked.correct, self.elbo.kl_weight)

    def after_step(self, *, clamp: bool) -> None:
        if clamp:
            self.twin.clamp_()

    def end_of_epoch(self, end: EpochEnd) -> Mapping[str, Any]:
        logged = dict((self.on_epoch(end) if self.on_epoch else None) or {})
        return {
            "units": {group: kept for group, (kept, _) in self.twin.units_kept().items()},
            "effective_parameters": int(self.twin.effective_parameters()),
            "removability": {
                group: _quantiles(np.asarray(values, np.float64))
                for group, values in self.twin.removability().items()
            },
            **logged,
        }

    def shrink_(
        self, keep: Mapping[str, NDArray[np.bool_]], *, optimizer: torch.optim.Optimizer
    ) -> None:
        """Remove units from the twin, and from the optimiser's memory with them.

        Args:
            keep: per group, which of the units it has now stay.
            optimizer: the one that ``EpochEnd`` brought.
        """
        for cut in self.twin.shrink_(keep):
            slice_optimizer_state_(optimizer, cut.parameter, cut.axis, cut.index)

    def state(self) -> dict[str, Any]:
        masks = self.twin.kept_masks()
        return {
            "kl_multiplier": self.kl_multiplier,
            "kept": {name: torch.as_tensor(np.array(mask, bool)) for name, mask in masks.items()},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Shrink the twin to the saved units, which must be among those it has now."""
        self.kl_multiplier = float(state["kl_multiplier"])
        current = {name: np.asarray(m, bool) for name, m in self.twin.kept_masks().items()}
        saved = {name: mask.numpy() for name, mask in state["kept"].items()}
        if saved.keys() != current.keys() or any(
            saved[name].shape != mask.shape or (saved[name] & ~mask).any()
            for name, mask in current.items()
        ):
            raise ConfigError(
                f"checkpoint: its groups {_sizes(saved)} do not fit the twin's {_sizes(current)}; "
                "build the twin from the network the run started with"
            )
        keep = {name: saved[name][mask] for name, mask in current.items()}
        if not all(mask.all() for mask in keep.values()):
            self.twin.shrink_(keep)


def _quantiles(values: NDArray[np.float64]) -> list[float]:
    """The quantiles of the finite values; none of none."""
    finite = values[np.isfinite(values)]
    return [float(q) for q in np.quantile(finite, QUANTILES)] if finite.size else []


def _sizes(masks: Mapping[str, NDArray[np.bool_]]) -> str:
    counts = (f"{name} {int(m.sum())} of {m.size}" for name, m in masks.items())
    return "(" + ", ".join(counts) + ")"
