"""The learned prior over a tensor's symbols: its code length is the complexity term of the bits pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from epigram.errors import ConfigError
from epigram.maths.rate import LOG_SCALE_MAX, LOG_SCALE_MIN, held, mixture_bits

PriorFamily: TypeAlias = Literal["mixture", "spike", "laplace"]

_STARTS: Mapping[PriorFamily, tuple[float, ...]] = {
    "mixture": (-1.0, 1.0),
    "spike": (LOG_SCALE_MIN, 0.5),
    "laplace": (0.0,),
}


class SymbolPrior(nn.Module):
    """Two zero-centred Laplace distributions, integrated over the bins; proper, so a code length.

    One component tells small symbols apart from zero, the other covers the few large ones. Factors per
    index of an axis multiply both scales: the group scale again, in symbols.

    Args:
        shape: of the tensor whose symbols these are.
        axes: which axes have a factor per index (0 = outputs, 1 = inputs).
        family: ``"mixture"``: both scales are learned; ``"spike"``: the narrow one is as narrow as
            can be, all but a point at zero; ``"laplace"``: there is only one.

    Raises:
        ConfigError: an axis that the tensor does not have.

    References:
        Ballé, Laparra, Simoncelli 2017, §3; Oktay et al. 2020, §3.

    Example:
        >>> prior = SymbolPrior((2, 3))
        >>> bool(prior.bits(torch.zeros(2, 3)).sum() < prior.bits(torch.ones(2, 3)).sum())
        True
    """

    def __init__(
        self, shape: Sequence[int], *, axes: Sequence[int] = (), family: PriorFamily = "mixture"
    ) -> None:
        super().__init__()
        starts = _STARTS[family]
        self.family = family
        self.mix = nn.Parameter(torch.zeros(len(starts)))
        self.log_scales = nn.Parameter(torch.tensor(starts))
        for axis in axes:
            if not 0 <= axis < len(shape):
                raise ConfigError(
                    f"SymbolPrior: got axis {axis}, expected one of the {len(shape)} axes of {tuple(shape)}"
                )
        self.axes = tuple(axes)
        self.factors = nn.ParameterList(
            torch.zeros([size if i == axis else 1 for i, size in enumerate(shape)])
            for axis in self.axes
        )

    def bits(self, symbols: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Code length of each symbol; symbols may be whole numbers or those plus noise."""
        return mixture_bits(symbols, *self.components())

    def components(self) -> tuple[list[Tensor], list[Tensor]]:
        """Logarithms of weight and scale of each component, broadcastable against the tensor."""
        shift = sum(self.factors, start=torch.zeros((), device=self.mix.device))
        scales = self.log_scales.unbind() if not self.axes else [s + shift for s in self.log_scales]
        if self.family == "spike":
            scales = [self.log_scales[0].detach(), *scales[1:]]  # no factor widens a point
        weights = torch.log_softmax(self.mix, dim=0)
        return list(weights.unbind()), [held(s) for s in scales]

    @torch.no_grad()
    def clamp_(self) -> None:
        """Scales and factors back into their ranges; sums of both have a gradient wherever they are (``held``)."""
        self.log_scales.clamp_(LOG_SCALE_MIN, LOG_SCALE_MAX)
        for factor in self.factors:
            factor.clamp_(LOG_SCALE_MIN - LOG_SCALE_MAX, LOG_SCALE_MAX - LOG_SCALE_MIN)


def joint_bits(
    symbols: Sequence[Float[Tensor, "..."]],
    priors: Sequence[SymbolPrior],
    *,
    learn: bool = True,
) -> Float[Tensor, " symbols"]:
    """Code length of every symbol of several tensors, each under its own prior, in one pass.

    A network of a few thousand weights has many small tensors; one by one they would cost more in
    calls than in arithmetic.

    Args:
        symbols: of the tensors.
        priors: as many, all of one family.
        learn: do the priors get a gradient?
    """
    flat = torch.cat([tensor.reshape(-1) for tensor in symbols])
    columns: list[list[Tensor]] = [[] for _ in range(2 * len(priors[0].log_scales))]
    owned = not any(prior.axes for prior in priors)
    for tensor, prior in zip(symbols, priors, strict=True):
        weights, scales = prior.components()
        for column, part in zip(columns, (*weights, *scales), strict=True):
            said = part if learn else part.detach()
            column.append(said.reshape(1) if owned else said.expand(tensor.shape).reshape(-1))
    joined = [torch.cat(column) for column in columns]
    owner = None
    if owned:
        sizes = torch.tensor([tensor.numel() for tensor in symbols], device=flat.device)
        owner = torch.repeat_interleave(sizes, output_size=flat.numel())
    half = len(joined) // 2
    return mixture_bits(flat, joined[:half], joined[half:], owner=owner)
