"""A plain network whose parameters are symbols times steps, and what it costs to write them down.

value / step ──▶ round ──▶ × step ──▶ the network           (straight-through gradient)
      └──▶ + uniform noise ──▶ prior ──▶ bits               (the complexity term, in nats: kl_nats)
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from epigram.convert.coding import FLIP_MEMORY, CodingSettings
from epigram.convert.cutting import Cut
from epigram.errors import ConfigError
from epigram.maths.rate import rounded, writable
from epigram.priors.symbols import SymbolPrior, joint_bits
from epigram.records import BoolArray
from epigram.structure import followed_numbers, resize_to_shapes_

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
    ) -> None:
        super().__init__()
        start = value.detach().clone()
        if fixed:
            step = 1.0
        if step is None:
            nonzero = start[start != 0]
            spread = float(nonzero.square().mean().sqrt()) if nonzero.numel() else ZEROS_SPREAD
            step = spread / settings.steps_per_std
        if not (math.isfinite(step) and step > 0):
            raise ConfigError(f"CodedParameter: got step {step}, expected a finite number > 0")
        self.value = nn.Parameter(start)
        self.log_step = nn.Parameter(start.new_tensor(math.log(step)))
        axes = settings.axes if start.dim() > 1 else ()
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
        return written if self.live is None else written * self.live

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
            self.fixed, self.average = True, 0.0
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


class CodedNetwork(nn.Module):
    """A plain network that is trained as the symbols of its file.

    It is its own posterior: ``kl_nats`` is the code length of its symbols, so whatever trains a twin by
    the ELBO trains this by the size of the file. ``train()`` and ``eval()`` both compute with rounded
    symbols; only the rate is noisy in ``train()``. ``eval()`` takes the averages of values and steps over the
    last training steps, if ``average_()`` was called after each of them.

    Args:
        network: any plain module; it is copied.
        steps: parameter name -> starting step; absent = as ``settings.steps_per_std`` says.
        live: parameter name -> which inputs (axis 1) take symbols; absent = all.
        settings: prior, steps, and what the rate is taken of.
        fixed: parameters that are constants (0 and 1), such as those of a folded normalisation.
        settled: modules that stay in eval() also while the network is trained.

    Raises:
        ConfigError: a name that is no parameter, or a step that is not positive.

    Example:
        >>> coded = CodedNetwork(nn.Linear(4, 2))
        >>> coded(torch.ones(3, 4)).shape, bool(coded.kl_nats() > 0)
        (torch.Size([3, 2]), True)
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        steps: Mapping[str, float] | None = None,
        live: Mapping[str, BoolArray] | None = None,
        settings: CodingSettings = CodingSettings(),  # noqa: B008  (frozen)
        fixed: Collection[str] = (),
        settled: Collection[str] = (),
    ) -> None:
        super().__init__()
        steps, live = dict(steps or {}), dict(live or {})
        self.network = copy.deepcopy(network).requires_grad_(False)
        parameters = dict(self.network.named_parameters())
        unknown = sorted((steps.keys() | live.keys() | set(fixed)) - parameters.keys())
        if unknown:
            raise ConfigError(
                f"CodedNetwork: {unknown[0]!r} is not among the parameters {sorted(parameters)}"
            )
        self.names = tuple(parameters)
        self.coded = nn.ModuleList(
            CodedParameter(
                parameter,
                step=steps.get(name),
                live=torch.from_numpy(live[name]) if name in live else None,
                settings=settings,
                fixed=name in fixed,
            )
            for name, parameter in parameters.items()
        )
        self.settled = tuple(settled)
        self.train(network.training)

    def train(self, mode: bool = True) -> CodedNetwork:
        """As of any module; what is settled stays in eval()."""
        super().train(mode)
        for name in self.settled:
            self.network.get_submodule(name).eval()
        return self

    def parameters_by_name(self) -> dict[str, CodedParameter]:
        """Parameter name -> how it is coded."""
        found = {}
        for name, coded in zip(self.names, self.coded, strict=True):
            assert isinstance(coded, CodedParameter)
            found[name] = coded
        return found

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The network's output with the parameters that a reader of the file would get."""
        values = {name: coded() for name, coded in self.parameters_by_name().items()}
        return functional_call(self.network, values, args, kwargs)

    def rate_bits(self) -> Float[Tensor, ""]:
        """Code length of all symbols but those of constants under the learned priors, bits."""
        parts = [part for part in self.parameters_by_name().values() if not part.fixed]
        priors = [part.prior for part in parts]
        matched = self.training and all(part.rate_of == "matched" for part in parts)
        bits = joint_bits([part.noisy_symbols() for part in parts], priors, learn=not matched)
        if matched:
            coded = joint_bits([torch.round(part.scaled().detach()) for part in parts], priors)
            bits = bits + (coded - coded.detach())
        if all(part.live is None for part in parts):
            return bits.sum()
        live = [
            torch.ones_like(part.value) if part.live is None else part.live.expand_as(part.value)
            for part in parts
        ]
        return (bits * torch.cat([mask.reshape(-1) for mask in live])).sum()

    def kl_nats(self) -> Float[Tensor, ""]:
        """The complexity term: ``rate_bits`` in nats."""
        return self.rate_bits() * math.log(2.0)

    def plain(self) -> nn.Module:
        """The plain network with the decoded parameters; buffers are those of training."""
        network = copy.deepcopy(self.network)
        with torch.no_grad():
            for name, coded in self.parameters_by_name().items():
                network.get_parameter(name).copy_(coded())
        return network.requires_grad_(True)

    def layout(self) -> dict[str, Any]:
        """What has to be known before tensors are loaded: shapes, and what is special about them."""
        parts = self.parameters_by_name()
        return {
            "shapes": {n: list(t.shape) for n, t in self.network.state_dict().items()},
            "numbers": followed_numbers(self.network),
            "live": [name for name, part in parts.items() if part.live is not None],
            "fixed": [name for name, part in parts.items() if part.fixed],
            "settled": list(self.settled),
        }

    def lay_out_(self, layout: Mapping[str, Any]) -> None:
        """Take on another network's layout, its values being zero; nothing happens if it is this one's.

        Raises:
            ConfigError: the network cannot have these shapes.
        """
        if layout == self.layout():
            return
        shapes = {name: tuple(shape) for name, shape in layout["shapes"].items()}
        resize_to_shapes_(self.network, shapes, layout.get("numbers"))
        for name, part in self.parameters_by_name().items():
            part.reshape_(shapes[name], live=name in layout["live"], fixed=name in layout["fixed"])
        self.settled = tuple(layout["settled"])
        self.train(self.training)

    def clamp_(self) -> None:
        """Put the priors' scales back within their bounds."""
        for coded in self.parameters_by_name().values():
            coded.prior.clamp_()

    def average_(self) -> None:
        """Take the present values and steps into the averages; called after each step."""
        for coded in self.parameters_by_name().values():
            coded.average_()

    def watch_(self, most: float) -> None:
        """Freeze symbols that change more often than ``most`` times a step; called after each step."""
        for coded in self.parameters_by_name().values():
            coded.watch_(most)

    def frozen_share(self) -> float:
        """Which part of the symbols is frozen."""
        parts = [part for part in self.parameters_by_name().values() if part.freezes]
        total = sum(part.value.numel() for part in parts)
        return sum(float(part.frozen.sum()) for part in parts) / max(1, total)

    def named_roles(self) -> dict[str, str]:
        """Parameter name -> ``mean`` (values) or ``scale`` (steps and priors): what sets its step size."""
        return {
            name: "mean" if name.endswith(".value") else "scale"
            for name, parameter in self.named_parameters()
            if parameter.requires_grad
        }

    def effective_parameters(self) -> int:
        """Symbols that are not zero."""
        return sum(int(np.count_nonzero(c.symbols())) for c in self.parameters_by_name().values())

    # a network without scales: nothing is removed while its bits are trained

    def removability(self) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
        """None."""
        return {}

    def units_kept(self) -> dict[str, tuple[int, int]]:
        """None."""
        return {}

    def kept_masks(self) -> dict[str, BoolArray]:
        """None."""
        return {}

    def shrink_(self, keep: Mapping[str, BoolArray]) -> list[Cut]:
        """Nothing to shrink.

        Raises:
            ConfigError: something is asked to go.
        """
        if keep:
            raise ConfigError(
                f"CodedNetwork: got masks for {sorted(keep)}, expected none: units leave before or after "
                "the bits pass"
            )
        return []
