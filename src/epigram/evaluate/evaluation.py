"""What a classifier's outputs are worth: accuracy, NLL, calibration, confusion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from epigram.errors import ConfigError, DataError
from epigram.evaluate.calibration import CalibrationBins, calibration_bins
from epigram.records import IntArray

Metric: TypeAlias = Callable[[Tensor, Tensor], float]
"""``(logits, targets) -> value``, on the CPU, over a whole set."""

_BUILTIN = ("accuracy", "error", "nll", "calibration_error")


@dataclass(frozen=True, eq=False, kw_only=True)
class Evaluation:
    """The figures of one network on one set.

    Attributes:
        accuracy: Fraction of examples whose largest output is their label's, in [0, 1].
        error_percent: 100 times the fraction of the others.
        nll: Mean negative log-likelihood, nats per example.
        calibration_error: Expected calibration error over 15 bins, in [0, 1].
        bins: The bins behind it.
        confusion: Counts ``[label, answer]``; examples whose outputs hold a NaN are not in it.
        n: Examples.
        custom: Values of the caller's own metrics.
    """

    accuracy: float
    error_percent: float
    nll: float
    calibration_error: float
    bins: CalibrationBins
    confusion: IntArray
    n: int
    custom: Mapping[str, float] = field(default_factory=dict)

    def metric(self, name: str) -> float:
        """A figure by its name; ``"error"`` is a fraction, as ``"accuracy"`` is.

        Raises:
            ConfigError: there is no such metric; the message lists those there are.
        """
        if name in self.custom:
            return self.custom[name]
        if name == "error":
            return self.error_percent / 100.0
        if name in _BUILTIN:
            return float(getattr(self, name))
        raise ConfigError(_unknown_metric(name, [*_BUILTIN, *self.custom]))

    def figures(self) -> dict[str, float | int]:
        """The scalar figures, ready for JSON."""
        return {
            "n": self.n,
            "accuracy": self.accuracy,
            "error_percent": self.error_percent,
            "nll": self.nll,
            "calibration_error": self.calibration_error,
            **self.custom,
        }


def evaluate_logits(
    logits: Tensor,
    targets: Tensor,
    *,
    metrics: Mapping[str, Metric] | None = None,
) -> Evaluation:
    """Judge outputs that are there already (from ``predictions``).

    Sums are taken in fp64. An answer with a NaN among its outputs is wrong and makes the NLL
    a NaN, which meets no floor.

    Args:
        logits: Unnormalised log-probabilities, ``[examples, classes]``.
        targets: The labels, ``[examples]``, integers.
        metrics: The caller's own, by name.

    Raises:
        DataError: shapes or labels do not fit.
        ConfigError: a metric of the caller's has the name of one of ours.
    """
    clash = sorted(set(metrics or {}) & set(_BUILTIN))
    if clash:
        raise ConfigError(f"metrics: {clash} are taken; expected names other than {_BUILTIN}")
    logits, targets = logits.detach().cpu(), targets.cpu()
    _check(logits, targets)
    examples, classes = logits.shape
    log_probability = torch.log_softmax(logits.double(), dim=1)
    answered = ~torch.isnan(logits).any(dim=1)
    answer = logits.argmax(dim=1)
    correct = ((answer == targets) & answered).numpy()
    bins = calibration_bins(log_probability.max(dim=1).values.exp().numpy(), correct)
    pairs = (targets * classes + answer)[answered]
    confusion = torch.bincount(pairs, minlength=classes * classes).view(classes, classes)
    wrong = examples - int(correct.sum())
    nll = -log_probability.gather(1, targets[:, None]).mean().item()
    custom = {name: float(metric(logits, targets)) for name, metric in (metrics or {}).items()}
    return Evaluation(
        accuracy=(examples - wrong) / examples,
        error_percent=100.0 * wrong / examples,
        nll=nll,
        calibration_error=bins.error() if bool(answered.all()) else float("nan"),
        bins=bins,
        confusion=confusion.numpy().astype(np.int64),
        n=examples,
        custom=MappingProxyType(custom),
    )


def _check(logits: Tensor, targets: Tensor) -> None:
    if targets.is_floating_point() or targets.ndim != 1:
        raise DataError(
            f"evaluate: got targets of {targets.dtype} and shape {tuple(targets.shape)}, expected "
            "one integer label per example; use `predictions` and a metric of your own"
        )
    if logits.ndim != 2 or len(logits) != len(targets) or len(logits) == 0:
        raise DataError(
            f"evaluate: got outputs of shape {tuple(logits.shape)} for {len(targets)} labels, "
            "expected [examples, classes], and at least one example"
        )
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= logits.shape[1]:
        raise DataError(
            f"evaluate: labels run from {low} to {high}, but there are {logits.shape[1]} outputs"
        )


def _unknown_metric(name: str, valid: list[str]) -> str:
    close = get_close_matches(name, valid, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"metric: got {name!r}, expected one of {valid}{hint}"
