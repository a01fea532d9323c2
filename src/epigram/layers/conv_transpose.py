"""The variational counterparts of nn.ConvTranspose1d, nn.ConvTranspose2d and nn.ConvTranspose3d."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from epigram.errors import ConfigError
from epigram.layers.base import VariationalLayer
from epigram.layers.conv import Size
from epigram.layers.parameters import Variances
from epigram.layers.scaling import ScaleUse
from epigram.priors import GroupScale

_CONVOLVE: dict[int, Callable[..., Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}


class _VariationalConvTranspose(VariationalLayer):
    """A transposed convolution of any dimension, with the fields of the torch original.

    The weight has its input channels on axis 0, where the scale acts.

    Args:
        in_channels: as in the torch original, like all positional arguments.
        out_channels: likewise.
        kernel_size: likewise.
        stride: likewise.
        padding: likewise.
        output_padding: likewise.
        groups: likewise.
        bias: likewise.
        dilation: likewise.
        padding_mode: likewise (the original allows ``"zeros"`` only).
        scale: an own scale with ``in_channels`` units.
        scale_uses: scales that belong to somebody else.
        logvar_init: initial log-variance of weights and bias.
        logvar_min: lower bound that ``clamp_`` enforces on log-variances; None = no bound.
        logvar_max: upper bound likewise.
        variance_eps: added to every output's variance, inside the root.
        variances: "each" weight has one of its own, or they are "tied".
        device: as in the torch original.
        dtype: as in the torch original.

    Raises:
        ConfigError: a scale does not fit ``in_channels``, or a bound makes no sense.
        ValueError: the torch original would refuse the fields.
    """

    input_axis: ClassVar[int] = 0
    output_axis: ClassVar[int] = 1

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    padding_mode: str

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        padding_mode: Literal["zeros"] = "zeros",
        *,
        scale: GroupScale | None = None,
        scale_uses: Sequence[ScaleUse] = (),
        logvar_init: float = -9.0,
        logvar_min: float | None = None,
        logvar_max: float | None = None,
        variance_eps: float = 1e-8,
        variances: Variances = "each",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        plain = self.plain_class(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            output_padding=output_padding,
            groups=groups,
            bias=bias,
            dilation=dilation,
            padding_mode=padding_mode,
            device=device,
            dtype=dtype,
        )
        super().__init__(
            plain,
            scale=scale,
            scale_uses=scale_uses,
            logvar_init=logvar_init,
            logvar_min=logvar_min,
            logvar_max=logvar_max,
            variance_eps=variance_eps,
            variances=variances,
        )

    @property
    def in_channels(self) -> int:
        """Number of input channels, read off the weights."""
        return self.weight_mean.shape[0]

    @property
    def out_channels(self) -> int:
        """Number of output channels, read off the weights; after removing groups set ``groups``."""
        return self.weight_mean.shape[1] * self.groups

    @property
    def kernel_size(self) -> tuple[int, ...]:
        """Extent of the filters."""
        return tuple(self.weight_mean.shape[2:])

    def forward(
        self, x: Float[Tensor, "*batch_channels_space"], output_size: Sequence[int] | None = None
    ) -> Float[Tensor, "..."]:
        """Sampled outputs in ``train()``, the posterior mean's in ``eval()``.

        Args:
            x: the input.
            output_size: the spatial size wanted where the stride leaves a choice; None = what
                ``output_padding`` gives.

        Raises:
            ConfigError: that size cannot be reached.
        """
        output_padding = self._output_padding(x, output_size)
        return self._forward(x, partial(self._convolve, output_padding))

    def plain_fields(self) -> dict[str, Any]:
        """What the torch original is called with."""
        return {
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "padding": self.padding,
            "output_padding": self.output_padding,
            "groups": self.groups,
            "bias": self.bias_mean is not None,
            "dilation": self.dilation,
            "padding_mode": self.padding_mode,
        }

    def _output_padding(self, x: Tensor, output_size: Sequence[int] | None) -> tuple[int, ...]:
        if output_size is None:
            return self.output_padding
        wanted = tuple(output_size)[-self.spatial_dims :]
        smallest = tuple(
            (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1
            for size, stride, padding, dilation, kernel in zip(
                x.shape[-self.spatial_dims :],
                self.stride,
                self.padding,
                self.dilation,
                self.kernel_size,
                strict=True,
            )
        )
        extra = tuple(size - least for size, least in zip(wanted, smallest, strict=False))
        fits = all(0 <= e < s for e, s in zip(extra, self.stride, strict=False))
        if len(wanted) != self.spatial_dims or not fits:
            largest = tuple(a + s - 1 for a, s in zip(smallest, self.stride, strict=True))
            raise ConfigError(
                f"{type(self).__name__}: got output_size={wanted} for an input of "
                f"{tuple(x.shape)}, expected between {smallest} and {largest}"
            )
        return extra

    def _set_geometry(self, plain: nn.Module) -> None:
        assert isinstance(plain, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
        assert not isinstance(plain.padding, str)
        self.stride = plain.stride
        self.padding = plain.padding
        self.output_padding = plain.output_padding
        self.dilation = plain.dilation
        self.groups = plain.groups
        self.padding_mode = plain.padding_mode

    def _inputs(self) -> int:
        return self.in_channels

    def _prepare(self, x: Tensor) -> Tensor:
        return x

    def _convolve(
        self, output_padding: tuple[int, ...], x: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        convolve = _CONVOLVE[self.spatial_dims]
        return convolve(
            x, weight, bias, self.stride, self.padding, output_padding, self.groups, self.dilation
        )

    def _fold(self, weight: Tensor, factor: Tensor) -> Tensor:
        return weight * factor.to(weight.dtype).view(-1, *[1] * (weight.dim() - 1))


class VariationalConvTranspose1d(_VariationalConvTranspose):
    """``nn.ConvTranspose1d`` with a posterior over its weights and a scale on its channels."""

    plain_class: ClassVar[type[nn.Module]] = nn.ConvTranspose1d
    spatial_dims: ClassVar[int] = 1


class VariationalConvTranspose2d(_VariationalConvTranspose):
    """``nn.ConvTranspose2d`` with a posterior over its weights and a scale on its channels."""

    plain_class: ClassVar[type[nn.Module]] = nn.ConvTranspose2d
    spatial_dims: ClassVar[int] = 2


class VariationalConvTranspose3d(_VariationalConvTranspose):
    """``nn.ConvTranspose3d`` with a posterior over its weights and a scale on its channels."""

    plain_class: ClassVar[type[nn.Module]] = nn.ConvTranspose3d
    spatial_dims: ClassVar[int] = 3
