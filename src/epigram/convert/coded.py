"""A plain network whose parameters are symbols times steps, and what it costs to write them down.

The rate of all symbols, in nats, is its complexity term: ``kl_nats``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from epigram.convert.coded_parameter import CodedParameter
from epigram.convert.coding import CodingSettings
from epigram.convert.cutting import Cut
from epigram.errors import ConfigError
from epigram.priors.symbols import joint_bits
from epigram.records import BoolArray
from epigram.structure import followed_numbers, resize_to_shapes_
from epigram.structure.copying import copied


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
        self.network = copied(network).requires_grad_(False)
        parameters = dict(self.network.named_parameters())
        unknown = sorted((steps.keys() | live.keys() | set(fixed)) - parameters.keys())
        if unknown:
            raise ConfigError(
                f"CodedNetwork: {unknown[0]!r} is not among the parameters {sorted(parameters)}"
            )
        kernels = _kernels(self.network) if settings.kernels == "cosine" else set()
        self.names = tuple(parameters)
        self.coded = nn.ModuleList(
            CodedParameter(
                parameter,
                step=steps.get(name),
                live=torch.from_numpy(live[name]) if name in live else None,
                settings=settings,
                fixed=name in fixed,
                cosine=id(parameter) in kernels,
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
        network = copied(self.network)
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

    def thaw_(self) -> None:
        """Let frozen symbols change again, for another pass from here."""
        for coded in self.parameters_by_name().values():
            coded.thaw_()

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


def _kernels(network: nn.Module) -> set[int]:
    """Which parameters are weights of two-dimensional convolutions, by identity."""
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    return {id(module.weight) for module in network.modules() if isinstance(module, kinds)}
