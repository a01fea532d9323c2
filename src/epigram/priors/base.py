"""What every group scale offers: one random variable per unit of a group.

         ┌────────────── GroupScale ──────────────┐
unit 0   │ q(z_0)   sample, mean, mode, E z²       │──▶ × the input unit of every layer
unit 1   │ q(z_1)   kl_nats (once, not per reader) │    that reads the group
...      │ ...      removability                   │
         └────────────────────────────────────────┘
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import nullcontext
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch._compile import _disable_dynamo

from epigram.errors import ConfigError, UnsupportedModelError
from epigram.priors.again import (
    Noted,
    RecentDraws,
    backward_pass,
    digest,
    drawing_from,
    in_checkpoint,
    outside_of_checkpoint,
    place_of,
)


class SharedDraw:
    """The one draw all readers of a scale see during a forward pass; made when first asked for."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.values: Tensor | None = None
        self.gradients = torch.is_grad_enabled()
        self.during = -1 if torch.compiler.is_compiling() else backward_pass()
        self.noted: Noted | None = None


class GroupScale(nn.Module, ABC):
    """A positive-by-role factor z per unit; layers that read the unit are multiplied by its draw.

    Subclasses hold per-unit parameters, named by ``unit_parameters``; parameters whose name ends in
    ``logvar`` are log-variances and are kept within bounds by ``clamp_``.

    Args:
        units: how many units the group has.
        logvar_min: lower bound that ``clamp_`` enforces on log-variances; None = no bound.
        logvar_max: upper bound likewise.

    Raises:
        ConfigError: ``units`` is negative or the bounds are the wrong way round.
    """

    trivial: ClassVar[bool] = False
    """True when z is 1 always, so that readers may skip the multiplication."""

    scale_free: ClassVar[bool] = True
    """True when neither the KL nor the removability changes where all z are multiplied by a number."""

    per_example: bool = True
    """Is z drawn for every example apart? False: once for all of them, as layers do that draw their weights."""

    def __init__(
        self, units: int, *, logvar_min: float | None = None, logvar_max: float | None = None
    ) -> None:
        super().__init__()
        check_units(type(self).__name__, units)
        check_bounds(type(self).__name__, logvar_min, logvar_max)
        self.logvar_min = logvar_min
        self.logvar_max = logvar_max
        self.shared_draw: SharedDraw | None = None
        self.recent = RecentDraws()

    @property
    @abstractmethod
    def units(self) -> int:
        """How many units are left."""

    @abstractmethod
    def sample(
        self, batch: int, *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "batch units"]:
        """A fresh reparameterised draw, one per example, whatever ``shared_draws`` holds.

        Args:
            batch: number of examples.
            generator: where the noise comes from; None = torch's global one.
        """

    @abstractmethod
    def mean(self) -> Float[Tensor, " units"]:
        """E z."""

    @abstractmethod
    def mode(self) -> Float[Tensor, " units"]:
        """Where the density of z peaks."""

    @abstractmethod
    def second_moment(self) -> Float[Tensor, " units"]:
        """E z²."""

    @abstractmethod
    def kl_nats(self) -> Float[Tensor, ""]:
        """KL(q(z) ‖ p(z)) summed over the units, nats; fp32 at least, under autocast too."""

    @abstractmethod
    def removability(self) -> Float[Tensor, " units"]:
        """How clearly a unit is noise; larger = more removable."""

    @abstractmethod
    def unit_parameters(self) -> dict[str, int]:
        """Parameter name -> the axis its units are on; parameters without units are absent."""

    def draw(self, batch: int) -> Float[Tensor, "draws units"]:
        """The draw a reader uses: the shared one inside ``shared_draws``, a fresh one elsewhere.

        Has a row for each of the ``batch`` examples, or, without ``per_example``, one for all. Where a
        backward pass computes a checkpointed block of a forward pass again, it is that pass's draw.

        Raises:
            UnsupportedModelError: the shared draw is for another number of examples, that is, the
                reader's axis of examples does not hold those the network was called with; or a block is
                computed again, and nobody can say which draw it saw.
        """
        shared = self.shared_draw
        compiled = torch.compiler.is_compiling()
        if self.recent.any and (shared is None if compiled else backward_pass() != -1):
            again: Tensor | None = self._drawn_again(batch)
            if again is not None:
                return again
        if shared is None:
            return self.sample(self._draws(batch))
        self._check_batch(shared.batch, batch)
        if not compiled and shared.gradients:
            return self._noting(shared)
        if shared.values is None:
            shared.values = self.sample(self._draws(batch))
        return shared.values

    def _draws(self, batch: int) -> int:
        return batch if self.per_example else 1

    def _check_batch(self, expected: int, batch: int) -> None:
        if expected != batch:
            raise UnsupportedModelError(
                f"{type(self).__name__} of {self.units} units: a reader has {batch} examples on "
                f"its axis of examples, but the draw is shared by {expected}; expected every reader "
                "to keep the examples on one axis. Leave the reshaped layer without a scale"
            )

    def _noting(self, shared: SharedDraw) -> Tensor:
        """The shared draw; where it was drawn, and where checkpointed blocks read it, is noted."""
        inside = in_checkpoint()
        place = place_of(self._device()) if inside or shared.values is None else None
        if shared.values is None:
            with outside_of_checkpoint() if inside else nullcontext():
                shared.values = self.sample(self._draws(shared.batch))
            shared.noted = Noted(shared.batch, place)
            self.recent.add(shared.noted)
        if inside and place is not None and shared.noted is not None:
            shared.noted.reads.add(digest(place))
        return shared.values

    @_disable_dynamo  # torch.compiler.disable would import the compiler here
    def _drawn_again(self, batch: int) -> Tensor | None:
        """The draw of the forward pass of which a backward pass computes a block again; None if none does."""
        current, shared = backward_pass(), self.shared_draw
        set_by_hand = shared is not None and shared.values is not None and shared.noted is None
        if current == -1 or set_by_hand or (shared is not None and shared.during == current):
            return None
        device = self._device()
        place = place_of(device)
        noted = self.recent.read_at(place)
        self._check_batch(noted.batch, batch)
        assert noted.start is not None
        with outside_of_checkpoint():
            if place is not None and torch.equal(noted.start, place):  # it was the block that drew
                return self.sample(self._draws(batch))
            with drawing_from(noted.start, device):
                return self.sample(self._draws(batch))

    def _device(self) -> torch.device:
        first = next(iter(self._parameters.values()), None)
        return torch.device("cpu") if first is None else first.device

    @torch.no_grad()
    def clamp_(self) -> None:
        """Put the log-variances back within ``logvar_min`` and ``logvar_max``, in place."""
        if self.logvar_min is None and self.logvar_max is None:
            return
        for name, parameter in self.named_parameters():
            if name.endswith("logvar"):
                parameter.clamp_(self.logvar_min, self.logvar_max)

    @torch.no_grad()
    def keep_(self, index: Int[Tensor, " kept"]) -> None:
        """Keep only the units ``index``, in that order; parameter objects stay the same objects.

        Optimiser state can be sliced alongside, with ``unit_parameters``. Gradients are dropped.

        Args:
            index: the units to keep.
        """
        for name, axis in self.unit_parameters().items():
            parameter = self.get_parameter(name)
            put_data_(parameter, parameter.data.index_select(axis, index.to(parameter.device)))

    def extra_repr(self) -> str:
        """What ``print(scale)`` shows."""
        return f"units={self.units}"


def put_data_(tensor: Tensor, data: Tensor) -> None:
    """Give a parameter or buffer other data, of another shape too; its gradient is dropped.

    While a loss of the past is still alive (``loss`` in a training loop), so is autograd's node that
    adds up the parameter's gradient, and it insists on the old shape. torch lets go of the node when
    the type of the data changes, so it is changed on the way.

    Args:
        tensor: keeps its identity.
        data: of the same type and device.
    """
    tensor.grad = None
    other = torch.float32 if data.dtype == torch.float16 else torch.float16
    tensor.data = data.new_empty(0, dtype=other)
    tensor.data = data


def check_units(where: str, units: int) -> None:
    """Refuse a negative number of units."""
    if units < 0:
        raise ConfigError(f"{where}: got units={units}, expected 0 or more")


def check_bounds(where: str, low: float | None, high: float | None) -> None:
    """Refuse log-variance bounds that no value can satisfy."""
    if low is not None and high is not None and not low <= high:
        raise ConfigError(
            f"{where}: got logvar_min={low}, logvar_max={high}, expected logvar_min <= logvar_max"
        )


def checked_start(where: str, logvar: float, low: float | None, high: float | None) -> float:
    """``logvar`` if it lies within the bounds.

    Raises:
        ConfigError: it is outside, so that the first ``clamp_`` would move it.
    """
    if (low is not None and logvar < low) or (high is not None and logvar > high):
        raise ConfigError(
            f"{where}: got an initial log-variance of {logvar}, outside [{low}, {high}]; "
            "start within the bounds or widen them"
        )
    return logvar
