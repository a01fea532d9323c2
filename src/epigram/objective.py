"""The negative ELBO per example, and how its KL term is phased in.

    loss = mean NLL per example + kl_weight · KL / N

KL is a sum over the whole network, in nats; N is the number of training *examples*. This is the only
place that divides by N.
"""

from __future__ import annotations

import contextlib
import math
from typing import Literal, Protocol, TypeAlias, get_args, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from epigram.errors import ConfigError

WarmupShape: TypeAlias = Literal["linear", "cosine"]


@runtime_checkable
class HasKL(Protocol):
    """Anything with a KL: a twin, a variational layer, a group scale."""

    def kl_nats(self) -> Tensor:
        """KL(q‖p), a sum in nats."""
        ...


def negative_elbo(
    nll_mean: Float[Tensor, ""],
    kl_nats: Float[Tensor, ""],
    *,
    num_train_examples: int,
    kl_weight: float = 1.0,
) -> Float[Tensor, ""]:
    """The loss: ``nll_mean + kl_weight · kl_nats / num_train_examples``, in nats per example.

    Half-precision arguments are widened to fp32 first: a KL of a million nats has no bf16.

    Args:
        nll_mean: negative log-likelihood, averaged over the examples of the batch, nats.
        kl_nats: KL(q‖p) of the whole network, a sum, nats.
        num_train_examples: N, the number of training examples (not of minibatches).
        kl_weight: weight of the KL; 1 is the ELBO itself.

    Raises:
        ConfigError: N is not a positive whole number, or the weight is negative or not finite.

    References:
        Kingma, Salimans, Welling 2015, eq. 1; Louizos, Ullrich, Welling 2017, eq. 3.

    Example:
        >>> loss = negative_elbo(torch.tensor(0.25), torch.tensor(5000.0), num_train_examples=50_000)
        >>> round(loss.item(), 6)
        0.35
    """
    check_num_train_examples(num_train_examples)
    _check_weight(kl_weight)
    return _widened(nll_mean) + _widened(kl_nats) * (kl_weight / num_train_examples)


class ELBO:
    """``elbo(nll)`` is the loss to differentiate: the mean NLL plus the twin's share of KL.

    Args:
        twin: whatever has ``kl_nats()``.
        num_train_examples: N, the number of training examples.
        train_set_size: the data set's length where it is known; another N is then refused.
        kl_weight: weight of the KL; assign to ``elbo.kl_weight`` to change it while training.

    Raises:
        ConfigError: N is not a positive whole number or contradicts ``train_set_size``.

    Example:
        >>> class Twin:
        ...     def kl_nats(self) -> Tensor:
        ...         return torch.tensor(20.0)
        >>> ELBO(Twin(), num_train_examples=10)(torch.tensor(1.0)).item()
        3.0
    """

    def __init__(
        self,
        twin: HasKL,
        num_train_examples: int,
        *,
        train_set_size: int | None = None,
        kl_weight: float = 1.0,
    ) -> None:
        check_num_train_examples(num_train_examples, train_set_size=train_set_size)
        _check_weight(kl_weight)
        self.twin = twin
        self.num_train_examples = num_train_examples
        self.kl_weight = kl_weight

    def __call__(self, nll_mean: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """The loss, in nats per example; the KL is computed in fp32 even under autocast."""
        return self.combine(nll_mean, kl_in_fp32(self.twin))

    def combine(self, nll_mean: Float[Tensor, ""], kl_nats: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """The loss from a KL that is already at hand."""
        return negative_elbo(
            nll_mean,
            kl_nats,
            num_train_examples=self.num_train_examples,
            kl_weight=self.kl_weight,
        )


def kl_in_fp32(twin: HasKL) -> Float[Tensor, ""]:
    """The twin's KL in nats, computed outside any autocast region."""
    with contextlib.ExitStack() as regions:
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                regions.enter_context(torch.autocast(device, enabled=False))
        return twin.kl_nats()


def check_num_train_examples(
    num_train_examples: int,
    *,
    train_set_size: int | None = None,
    batch_size: int | None = None,
) -> None:
    """Refuse an N that is not the number of training examples.

    Raises:
        ConfigError: N is not a positive whole number, or is not ``train_set_size``. If it is the
            number of minibatches (of ``batch_size``, or of some usual size), the message says so.
    """
    got = num_train_examples
    if type(got) is not int or got < 1:
        raise ConfigError(
            f"num_train_examples: got {got!r}, expected a whole number >= 1: "
            "how many examples there are to train on"
        )
    if train_set_size is None or got == train_set_size:
        return
    per_batch = _batch_size_behind(got, train_set_size, batch_size)
    if per_batch is not None:
        raise ConfigError(
            f"num_train_examples: got {got}, which is the number of minibatches of {per_batch}; "
            f"expected the number of examples, {train_set_size}. As it is, the KL would weigh "
            f"{train_set_size / got:.3g} times too much: pass len(data_set), not len(loader)"
        )
    raise ConfigError(
        f"num_train_examples: got {got}, expected {train_set_size}, the length of the data set "
        "trained on"
    )


_USUAL_BATCH_SIZES = (*(2**k for k in range(1, 16)), 10, 20, 25, 50, 100, 200, 250, 500, 1000)


def _batch_size_behind(count: int, size: int, batch_size: int | None) -> int | None:
    """The batch size by which ``size`` examples make ``count`` minibatches, if there is one."""
    candidates: tuple[int, ...] = _USUAL_BATCH_SIZES if batch_size is None else (batch_size,)
    for candidate in candidates:
        if candidate > 1 and count in (size // candidate, -(-size // candidate)):
            return candidate
    return None


def kl_warmup(epoch_progress: float, warmup_epochs: float, shape: WarmupShape = "linear") -> float:
    """How much of the KL weight is on, from 0 at the start to 1 after ``warmup_epochs``.

    Args:
        epoch_progress: epochs done so far, fractions included (3.25 = a quarter into the fourth).
        warmup_epochs: over how many epochs the KL comes in; 0 switches the warm-up off.
        shape: ``"linear"``, or ``"cosine"`` with a gentle start and end.

    Raises:
        ConfigError: a negative length or an unknown shape.

    Example:
        >>> kl_warmup(2.5, 10.0), kl_warmup(2.5, 0.0), kl_warmup(50.0, 10.0)
        (0.25, 1.0, 1.0)
    """
    if shape not in get_args(WarmupShape):
        raise ConfigError(
            f"kl_warmup shape: got {shape!r}, expected one of {get_args(WarmupShape)}"
        )
    if not warmup_epochs >= 0:
        raise ConfigError(f"kl_warmup_epochs: got {warmup_epochs!r}, expected a number >= 0")
    if warmup_epochs == 0:
        return 1.0
    fraction = min(1.0, max(0.0, epoch_progress / warmup_epochs))
    return fraction if shape == "linear" else 0.5 - 0.5 * math.cos(math.pi * fraction)


def steered(
    multiplier: float,
    *,
    margin: float,
    width: float,
    rate: float = 0.5,
    least: float = 1e-3,
    most: float = 1e3,
) -> float:
    """The KL's next multiplier, so that the control metric comes to sit on the floor.

    ``log multiplier += rate · tanh(margin / width)``: more KL while there is room above the floor,
    less while the floor is missed, nothing to do on it.

    Args:
        multiplier: the present one, > 0.
        margin: how far the metric is on the good side of the floor (``Floor.margin``).
        width: the margin that counts as much, in the metric's unit; its noise is a good choice.
        rate: the largest move on the natural-log scale.
        least: the multiplier stays at or above this.
        most: and at or below this.

    Raises:
        ConfigError: an argument is out of range. A NaN margin is a missed floor.

    References:
        Rezende, Viola 2018, "Taming VAEs", algorithm 1, with the metric in place of its constraint.

    Example:
        >>> steered(1.0, margin=0.0, width=0.002)
        1.0
        >>> steered(1.0, margin=0.01, width=0.002) > 1.6
        True
    """
    if not (0 < least <= most and width > 0 and rate >= 0 and multiplier > 0):
        raise ConfigError(
            f"steered: got multiplier {multiplier}, width {width}, rate {rate}, least {least}, most "
            f"{most}; expected all > 0 (rate >= 0) and least <= most"
        )
    push = -1.0 if math.isnan(margin) else math.tanh(margin / width)
    return min(most, max(least, multiplier * math.exp(rate * push)))


def _check_weight(kl_weight: float) -> None:
    if not (math.isfinite(kl_weight) and kl_weight >= 0):
        raise ConfigError(f"kl_weight: got {kl_weight!r}, expected a finite number >= 0")


def _widened(value: Tensor) -> Tensor:
    return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value
