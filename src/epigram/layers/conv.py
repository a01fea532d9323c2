"""The variational counterparts of nn.Conv1d, nn.Conv2d and nn.Conv3d."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from epigram.layers.base import VariationalLayer
from epigram.layers.parameters import Variances
from epigram.layers.scaling import ScaleUse
from epigram.maths.moments import LinearMap
from epigram.maths.places import Geometry, squares_by_places
from epigram.priors import GroupScale

Size: TypeAlias = int | tuple[int, ...]
PaddingMode: TypeAlias = Literal["zeros", "reflect", "replicate", "circular"]

_WORTH_A_PRODUCT = 4
"""Input channels from which on a single output is computed place by place."""

_CONVOLVE: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


class _VariationalConv(VariationalLayer):
    """A convolution of any dimension; its constructor fields are those of the torch original.

    The scale acts on input channels 0..in-1, also when the channels are in groups.

    Args:
        in_channels: as in the torch original, like all positional arguments.
        out_channels: likewise.
        kernel_size: likewise.
        stride: likewise.
        padding: likewise, ``"same"`` and ``"valid"`` included.
        dilation: likewise.
        groups: likewise.
        bias: likewise.
        padding_mode: likewise. Zeros pad the variance with zeros, which is right because a padded
            zero has no variance; the other modes copy inputs, so x is padded and then squared.
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

    stride: tuple[int, ...]
    padding: str | tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    padding_mode: PaddingMode

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
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
            dilation=dilation,
            groups=groups,
            bias=bias,
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
        """Number of input channels, read off the weights; after removing groups set ``groups``."""
        return self.weight_mean.shape[1] * self.groups

    @property
    def out_channels(self) -> int:
        """Number of output channels, read off the weights."""
        return self.weight_mean.shape[0]

    @property
    def kernel_size(self) -> tuple[int, ...]:
        """Extent of the filters."""
        return tuple(self.weight_mean.shape[2:])

    def forward(self, x: Float[Tensor, "*batch_channels_space"]) -> Float[Tensor, "..."]:
        """Sampled outputs in ``train()``, the posterior mean's in ``eval()``."""
        return self._forward(x, self._convolve)

    def plain_fields(self) -> dict[str, Any]:
        """What the torch original is called with."""
        return {
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "bias": self.bias_mean is not None,
            "padding_mode": self.padding_mode,
        }

    def _set_geometry(self, plain: nn.Module) -> None:
        assert isinstance(plain, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        self.stride = plain.stride
        self.padding = plain.padding
        self.dilation = plain.dilation
        self.groups = plain.groups
        self.padding_mode = plain.padding_mode
        # torch keeps what F.pad needs here, with "same" worked out
        self._pad = list(plain._reversed_padding_repeated_twice)  # noqa: SLF001

    def _inputs(self) -> int:
        return self.in_channels

    def _prepare(self, x: Tensor) -> Tensor:
        if not self._pads_beforehand():
            return x
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        return F.pad(x, self._pad, mode=mode)

    def _pads_beforehand(self) -> bool:
        """Copies are padded, and zeros where "same" is lopsided: torch would pad both x and x²."""
        lopsided = self.padding == "same" and self._pad[::2] != self._pad[1::2]
        return self.padding_mode != "zeros" or lopsided

    def _shared_variance(self, x: Tensor, apply: LinearMap) -> Tensor:
        assert self.weight_input_logvar is not None
        variance = self.weight_input_logvar.exp()
        if self.groups == 1 and self.in_channels >= _WORTH_A_PRODUCT and self._is_batched(x):
            return squares_by_places(x, variance, self._geometry())
        return apply(x.square(), variance.expand(self.groups, *variance.shape[1:]), None)

    def _geometry(self) -> Geometry:
        none = self._pads_beforehand()
        padding = tuple(0 if none else pad for pad in reversed(self._pad[::2]))
        return Geometry(self.kernel_size, self.stride, padding, self.dilation)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        padding = 0 if self._pads_beforehand() else self.padding
        convolve = _CONVOLVE[self.spatial_dims]
        return convolve(x, weight, bias, self.stride, padding, self.dilation, self.groups)

    def _fold(self, weight: Tensor, factor: Tensor) -> Tensor:
        per_output = factor.to(weight.dtype).view(self.groups, -1)
        if self.groups > 1:
            per_output = per_output.repeat_interleave(self.out_channels // self.groups, dim=0)
        return weight * per_output.view(*per_output.shape, *[1] * self.spatial_dims)


class VariationalConv1d(_VariationalConv):
    """``nn.Conv1d`` with a posterior over its weights and a scale on its input channels."""

    plain_class: ClassVar[type[nn.Module]] = nn.Conv1d
    spatial_dims: ClassVar[int] = 1


class VariationalConv2d(_VariationalConv):
    """``nn.Conv2d`` with a posterior over its weights and a scale on its input channels.

    Example:
        >>> from epigram.priors import GroupHorseshoe
        >>> layer = VariationalConv2d(4, 8, 3, padding="same", scale=GroupHorseshoe(4))
        >>> tuple(layer(torch.ones(2, 4, 5, 5)).shape)
        (2, 8, 5, 5)
    """

    plain_class: ClassVar[type[nn.Module]] = nn.Conv2d
    spatial_dims: ClassVar[int] = 2


class VariationalConv3d(_VariationalConv):
    """``nn.Conv3d`` with a posterior over its weights and a scale on its input channels."""

    plain_class: ClassVar[type[nn.Module]] = nn.Conv3d
    spatial_dims: ClassVar[int] = 3
