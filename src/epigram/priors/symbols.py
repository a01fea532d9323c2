"""The learned prior over a tensor's symbols: its code length is the complexity term of the bits pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from epigram.errors import ConfigError
from epigram.maths.rate import LOG_SCALE_MAX, LOG_SCALE_MIN, mixture_bits

_NARROW, _WIDE = -1.0, 1.0


class SymbolPrior(nn.Module):
    """Two zero-centred Laplace distributions, integrated over the bins; proper, so a code length.

    One component tells small symbols apart from zero, the other covers the few large ones. Factors per
    index of an axis multiply both scales: the group scale again, in symbols.

    Args:
        shape: of the tensor whose symbols these are.
        axes: which axes have a factor per index (0 = outputs, 1 = inputs).

    Raises:
        ConfigError: an axis that the tensor does not have.

    References:
        Ballé, Laparra, Simoncelli 2017, §3; Oktay et al. 2020, §3.

    Example:
        >>> prior = SymbolPrior((2, 3))
        >>> bool(prior.bits(torch.zeros(2, 3)).sum() < prior.bits(torch.ones(2, 3)).sum())
        True
    """

    def __init__(self, shape: Sequence[int], *, axes: Sequence[int] = ()) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.zeros(2))
        self.log_scales = nn.Parameter(torch.tensor([_NARROW, _WIDE]))
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
        shift = sum(self.factors, start=torch.zeros((), device=symbols.device))
        scales = [(s + shift).clamp(LOG_SCALE_MIN, LOG_SCALE_MAX) for s in self.log_scales]
        weights = torch.log_softmax(self.mix, dim=0)
        return mixture_bits(symbols, weights, scales)

    @torch.no_grad()
    def clamp_(self) -> None:
        """Scales back into the range where they have a gradient."""
        self.log_scales.clamp_(LOG_SCALE_MIN, LOG_SCALE_MAX)
        for factor in self.factors:
            factor.clamp_(LOG_SCALE_MIN - LOG_SCALE_MAX, LOG_SCALE_MAX - LOG_SCALE_MIN)
