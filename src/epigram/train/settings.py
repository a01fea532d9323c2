"""The settings of one training stage: valid, or not built."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints

from epigram.config import bookkeeping
from epigram.errors import ConfigError
from epigram.objective import WarmupShape


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How one stage is trained. ``docs/training.md`` says when to touch which.

    Attributes:
        epochs: passes over the training examples; 0 trains nothing.
        batch_size: examples per step.
        drop_last: leave out the last, incomplete batch of an epoch.
        optimizer: ``"adam"``, ``"adamw"`` (weight decay apart from the gradient) or ``"sgd"``.
        learning_rate: the largest step size; the schedule and the factors below multiply it.
        betas: Adam's two decay rates.
        momentum: SGD's; 0 is plain SGD.
        nesterov: SGD's look-ahead.
        weight_decay: applied to means only, never to log-variances and scales.
        schedule: of the learning rate, over the whole stage.
        final_factor: what ``"cosine"`` and ``"linear"`` end at, as a share of ``learning_rate``.
        cycles: how often ``"cosine"`` and ``"linear"`` are gone through; each cycle begins where the decay over the
            whole stage stands then (warm restarts). What a stage does between cycles is its own affair.
        step_epochs: ``"step"`` multiplies by ``step_factor`` every so many epochs.
        step_factor: see ``step_epochs``.
        lr_warmup_epochs: the learning rate grows linearly over the first epochs; 0 = off.
        logvar_lr_factor: step size of log-variances, relative to the means'.
        scale_lr_factor: step size of group scales' parameters, relative to the means'.
        grad_clip: largest 2-norm of the whole gradient; None = off.
        clamp: keep log-variances within the bounds their layers were built with after every step.
        kl_weight: weight of the KL; 1 is the ELBO.
        kl_warmup_epochs: the KL comes in over so many epochs; 0 = off.
        kl_warmup_shape: ``"linear"`` or ``"cosine"``.
        amp: ``"bf16"`` runs the forward pass under autocast; loss and KL stay in fp32.
        channels_last: images, and weights of 2d convolutions, lie in memory with their channels together.
        control_every_epochs: how often the control split is evaluated (always after the last).
        checkpoint_every_epochs: how often a checkpoint is written (always after the last epoch).
        checkpoint_every_seconds: also within an epoch, after so much time; None = off.
        guard_every_steps: how often the guard against NaN looks; 0 = off.
        tensorboard: write scalars for TensorBoard.

    Raises:
        ConfigError: a value is of the wrong type or out of range; the message says field, got and
            expected.

    Example:
        >>> TrainSettings(epochs=-1)
        Traceback (most recent call last):
        epigram.errors.ConfigError: TrainSettings.epochs: got -1, expected a whole number >= 0
    """

    epochs: int = 30
    batch_size: int = 128
    drop_last: bool = False
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine", "linear", "step"] = "cosine"
    final_factor: float = 0.0
    cycles: int = 1
    step_epochs: int = 10
    step_factor: float = 0.1
    lr_warmup_epochs: float = 0.0
    logvar_lr_factor: float = 1.0
    scale_lr_factor: float = 1.0
    grad_clip: float | None = None
    clamp: bool = True
    kl_weight: float = 1.0
    kl_warmup_epochs: float = 0.0
    kl_warmup_shape: WarmupShape = "linear"
    amp: Literal["none", "bf16"] = "none"
    channels_last: bool = False
    control_every_epochs: int = 1
    checkpoint_every_epochs: int = bookkeeping(1)
    checkpoint_every_seconds: float | None = bookkeeping(60.0)
    guard_every_steps: int = bookkeeping(50)
    tensorboard: bool = bookkeeping(True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        _check_literals(self)
        for name, least in _WHOLE_NUMBERS.items():
            self._check_whole(name, least)
        for name in ("drop_last", "nesterov", "clamp", "channels_last", "tensorboard"):
            if not isinstance(getattr(self, name), bool):
                self._refuse(name, "true or false")
        for name in ("learning_rate", "step_factor"):
            self._check_number(name, low=0.0, low_included=False)
        for name in _NOT_NEGATIVE:
            self._check_number(name, low=0.0)
        for name in ("grad_clip", "checkpoint_every_seconds"):
            if getattr(self, name) is not None:
                self._check_number(name, low=0.0, low_included=False)
        self._check_number("momentum", low=0.0, below=1.0)
        if [_is_number(b) and 0 <= b < 1 for b in self.betas] != [True, True]:
            self._refuse("betas", "two numbers in [0, 1)")
        if self.optimizer == "sgd" and self.nesterov and self.momentum == 0:
            self._refuse("nesterov", "false where momentum is 0")

    def _check_whole(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if type(value) is not int or value < least:
            self._refuse(name, f"a whole number >= {least}")

    def _check_number(
        self, name: str, *, low: float, low_included: bool = True, below: float = math.inf
    ) -> None:
        value = getattr(self, name)
        above = _is_number(value) and (value > low or (low_included and value == low))
        if not (above and value < below):
            relation = ">=" if low_included else ">"
            upper = "" if below == math.inf else f" and < {below:g}"
            self._refuse(name, f"a finite number {relation} {low:g}{upper}")

    def _refuse(self, name: str, expected: str) -> None:
        raise ConfigError(f"TrainSettings.{name}: got {getattr(self, name)!r}, expected {expected}")


_WHOLE_NUMBERS = {
    "epochs": 0,
    "batch_size": 1,
    "cycles": 1,
    "step_epochs": 1,
    "control_every_epochs": 1,
    "checkpoint_every_epochs": 1,
    "guard_every_steps": 0,
}
_NOT_NEGATIVE = (
    "weight_decay",
    "final_factor",
    "lr_warmup_epochs",
    "logvar_lr_factor",
    "scale_lr_factor",
    "kl_weight",
    "kl_warmup_epochs",
)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _check_literals(settings: TrainSettings) -> None:
    for name, hint in get_type_hints(TrainSettings).items():
        allowed = get_args(hint)
        if allowed and all(isinstance(word, str) for word in allowed):
            value = getattr(settings, name)
            if value not in allowed:
                raise ConfigError(
                    f"TrainSettings.{name}: got {value!r}, expected one of {', '.join(allowed)}"
                )
