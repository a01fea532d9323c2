"""One parameter as symbols times a step, and what its symbols cost under a learned prior.

value / step ──▶ round ──▶ × step ──▶ the network           (straight-through gradient; of coefficients, their kernels)
      └──▶ + uniform noise ──▶ prior ──▶ bits
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from epigram.convert.coding import FLIP_MEMORY, CodingSettings
from epigram.cosine import has_kernels
from epigram.errors import ConfigError
from epigram.maths.cosine import coefficients_of, kernels_of
from epigram.maths.rate import rounded, writable
from epigram.priors.symbols import SymbolPrior

ZEROS_SPREAD = 0.2
"""What a tensor of zeros (a fresh bias) is expected to spread to."""


class CodedParameter(nn.Module):
    """One parameter as the bits pass sees it: value, step, prior over value / step.

    Args:
        value: where it starts.
        step: where its step starts; None = the values' root mean square over ``settings.steps_per_std``.
        live: which inputs (axis 1) take symbols at all; None = all.
        settings: prior, steps, and what the rate is taken of; its axes are for weights, not for vectors.
        fixed: a constant of whole numbers, coded with a step of 1 and not trained.
        cosine: symbols are coefficients of the cosine transform of each kernel (last two axes).

    Raises:
        ConfigError: a step that is not positive and finite.
    """

    live: Tensor | None
    averaged_value: Tensor
    averaged_log_step: Tensor
    steps_averaged: Tensor
    flip_rate: Tensor
    mean_symbol: Tensor
    last_symbol: Tensor
    frozen: Tensor

    def __init__(
        self,
        value: Tensor,
        *,
        step: float | None = None,
        live: Tensor | None = None,
        settings: CodingSettings = CodingSettings(),  # noqa: B008  (frozen)
        fixed: bool = False,
        cosine: bool = False,
    ) -> None:
        super().__init__()
        self.cosine = cosine and has_kernels(value.shape) and not fixed
        start = coefficients_of(value.detach()) if self.cosine else value.detach().clone()
        if fixed:
            step = 1.0
        if step is None:
            step = _spread(start) / settings.steps_per_std
        if not (math.isfinite(step) and step > 0):
            raise ConfigError(f"CodedParameter: got step {step}, expected a finite number > 0")
        self.value = nn.Parameter(start)
        self.log_step = nn.Parameter(start.new_tensor(math.log(step)))
        axes = settings.axes if start.dim() > 1 else ()
        axes += (2, 3) if self.cosine else ()
        self.prior = SymbolPrior(start.shape, axes=axes, family=settings.prior)
        self.log_step.requires_grad_(settings.learned_steps)
        self.rate_of = settings.rate_of
        shaped = None if live is None else live.to(start.dtype).view(-1, *[1] * (start.dim() - 2))
        self.register_buffer("live", shaped)
        self.average = 0.0 if fixed else settings.average
        self.register_buffer("averaged_value", start.clone())
        self.register_buffer("averaged_log_step", self.log_step.detach().clone())
        self.register_buffer("steps_averaged", torch.zeros((), dtype=torch.int64))
        self.freezes = not fixed and settings.freeze_from < 1.0
        if self.freezes:
            with torch.no_grad():
                symbols = torch.round(start / step)
            for name in ("flip_rate", "mean_symbol", "last_symbol", "frozen"):
                filled = symbols.clone() if name.endswith("symbol") else torch.zeros_like(symbols)
                self.register_buffer(name, filled)
        self.fixed = fixed
        if fixed:
            self.requires_grad_(False)

    def forward(self) -> Tensor:
        """Step times symbol, with a gradient for value and step; in eval() those of the averages."""
        written = self._step() * rounded(self.scaled())
        written = written if self.live is None else written * self.live
        return kernels_of(written) if self.cosine else written

    def bits(self) -> Float[Tensor, ""]:
        """Code length: of the rounded symbols in eval(), of noisy ones, whose gradient is, in train()."""
        bits = self.prior.bits(self.noisy_symbols())
        return bits.sum() if self.live is None else (bits * self.live).sum()

    def noisy_symbols(self) -> Tensor:
        """What the rate is taken of: rounded in eval(), with uniform noise in train()."""
        scaled = self.scaled()
        if not self.training or self.rate_of == "rounded":
            return rounded(scaled) if self.training else torch.round(scaled)
        return scaled + (torch.rand_like(scaled) - 0.5)

    def scaled(self) -> Tensor:
        """The values in steps; of frozen symbols the symbols."""
        scaled = (self.value if self._is_live else self.averaged_value) / self._step()
        if not self.freezes:
            return scaled
        return torch.where(self.frozen > 0, self.mean_symbol, scaled)

    @torch.no_grad()
    def watch_(self, most: float) -> None:
        """Count changes of symbols; freeze those that change more often than ``most`` times a step."""
        if not self.freezes:
            return
        free = self.frozen == 0
        now = torch.round(self.value / self._step())
        self.flip_rate.lerp_((now != self.last_symbol).to(now.dtype), FLIP_MEMORY)
        self.mean_symbol.copy_(
            torch.where(free, torch.lerp(self.mean_symbol, now, FLIP_MEMORY), self.mean_symbol)
        )
        self.last_symbol.copy_(now)
        if most < math.inf:
            new = free & (self.flip_rate > most)
            self.mean_symbol.copy_(
                torch.where(new, torch.round(self.mean_symbol), self.mean_symbol)
            )
            self.frozen.copy_(self.frozen + new.to(now.dtype))

    @torch.no_grad()
    def thaw_(self) -> None:
        """Frozen symbols may change again; they go on from where they stand."""
        if self.freezes:
            stood = self.frozen > 0
            self.value.copy_(torch.where(stood, self.mean_symbol * self._step(), self.value))
            self.frozen.zero_()
            self.flip_rate.zero_()

    @torch.no_grad()
    def average_(self) -> None:
        """Take the present value and step into the averages; the first steps weigh more."""
        if self.average:
            done = int(self.steps_averaged)
            keep = min(self.average, done / (10.0 + done))
            self.steps_averaged += 1
            self.averaged_value.lerp_(self.value, 1.0 - keep)
            self.averaged_log_step.lerp_(self.log_step, 1.0 - keep)

    @property
    def _is_live(self) -> bool:
        """Do the values count as they are, rather than their averages?"""
        return self.training or not self.average or not self.steps_averaged

    @torch.no_grad()
    def symbols(self) -> np.ndarray[Any, np.dtype[np.int32]]:
        """The integers, zero where nothing is live."""
        symbols = torch.round(self.scaled())
        if self.live is not None:
            symbols = symbols * self.live
        return symbols.cpu().numpy().astype(np.int32)

    def reshape_(self, shape: Sequence[int], *, live: bool, fixed: bool) -> None:
        """Another shape, zeros for values; a prior's factors follow."""
        zeros = self.value.data.new_zeros(tuple(shape))
        self.value.data, self.averaged_value = zeros, zeros.clone()
        if self.freezes:
            for name in ("flip_rate", "mean_symbol", "last_symbol", "frozen"):
                setattr(self, name, zeros.clone())
        mask = zeros.new_ones(shape[1], *[1] * (len(shape) - 2)) if live else None
        self.live = mask
        for axis, factor in zip(self.prior.axes, self.prior.factors, strict=True):
            sizes = [size if i == axis else 1 for i, size in enumerate(shape)]
            factor.data = zeros.new_zeros(sizes)
        if fixed and not self.fixed:
            self.fixed, self.average, self.cosine = True, 0.0, False
            for name in (
                ("flip_rate", "mean_symbol", "last_symbol", "frozen") if self.freezes else ()
            ):
                delattr(self, name)
            self.freezes = False
            self.requires_grad_(False)

    @property
    def step(self) -> float:
        """The step, as the file can say it."""
        return float(self._step().detach())

    def _step(self) -> Tensor:
        return writable((self.log_step if self._is_live else self.averaged_log_step).exp())


def _spread(values: Tensor) -> float:
    """Root mean square of what is not zero; squares of numbers below 1e-23 are, in float32, so the largest is taken out."""
    nonzero = values[values != 0]
    if not nonzero.numel():
        return ZEROS_SPREAD
    largest = nonzero.abs().max()
    return float(largest * (nonzero / largest).square().mean().sqrt())
