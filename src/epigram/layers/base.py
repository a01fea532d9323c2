"""The thin shell all variational layers share.

        x ──▶ × z (drawn per example) ──▶ f(·;  weight_mean)  ──▶ mean ─────┐
                     │                                                      ├─▶ mean + √var · noise
                     └──▶ square ───────▶ f(·; exp weight_logvar) ──▶ var ──┘

train(), sampling():  as drawn.        eval():  f(x · E z; weight_mean), deterministic.

With ``noise`` "weights" the weights are drawn instead, once for the batch: f(x · z; weight_mean + √exp weight_logvar · noise).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from epigram.errors import ConfigError
from epigram.layers.scaling import ScaleUse, check_uses, product_of_draws, product_of_means
from epigram.layers.shell import Shell
from epigram.maths.kl import sum_kl_standard_normal
from epigram.maths.moments import (
    LinearMap,
    output_moments,
    sample_outputs,
    sample_weights,
    standard_normal_like,
)
from epigram.priors import GroupScale
from epigram.priors.base import check_bounds, checked_start

Noise: TypeAlias = Literal["outputs", "weights"]


class VariationalLayer(nn.Module, ABC):
    """A linear layer with independent normal posteriors over weights and bias.

    q(w | z) = N(z · weight_mean, z² · exp weight_logvar) with the prior N(0, z²), where z is the scale
    of the input unit the weight reads; the bias has the prior N(0, 1). ``scale_uses`` is a plain list
    that may be replaced; scales in it are not submodules of the layer. So may ``noise``: "outputs" draws
    those of every example apart, "weights" the weights, once a call: half the arithmetic, gradients that vary more.

    Args:
        plain: the torch layer this one is the counterpart of; its starting weights become the means.
        scale: a scale that becomes the submodule ``scale`` of this layer, one unit per input.
        scale_uses: scales that belong to somebody else.
        logvar_init: initial log-variance of weights and bias. The default, -9, is customary; it costs
            4 nats a weight, so a converted network starts better where its data put it.
        logvar_min: lower bound that ``clamp_`` enforces on log-variances; None = no bound.
        logvar_max: upper bound likewise.
        variance_eps: added to every output's variance, inside the root.

    Raises:
        ConfigError: a scale does not fit the inputs, or a bound or start makes no sense.
    """

    plain_class: ClassVar[type[nn.Module]]
    input_axis: ClassVar[int] = 1
    output_axis: ClassVar[int] = 0
    spatial_dims: ClassVar[int] = 0

    weight_mean: nn.Parameter
    weight_logvar: nn.Parameter
    bias_mean: nn.Parameter | None
    bias_logvar: nn.Parameter | None

    def __init__(
        self,
        plain: nn.Module,
        *,
        scale: GroupScale | None = None,
        scale_uses: Sequence[ScaleUse] = (),
        logvar_init: float = -9.0,
        logvar_min: float | None = None,
        logvar_max: float | None = None,
        variance_eps: float = 1e-8,
    ) -> None:
        super().__init__()
        where = type(self).__name__
        check_bounds(where, logvar_min, logvar_max)
        start = checked_start(where, logvar_init, logvar_min, logvar_max)
        if not variance_eps > 0.0:
            raise ConfigError(f"{where}: got variance_eps={variance_eps}, expected more than 0")
        self.logvar_min = logvar_min
        self.logvar_max = logvar_max
        self.variance_eps = variance_eps
        self.sampling = False
        self.noise: Noise = "outputs"
        self._set_parameters(plain, start)
        self._set_geometry(plain)
        self._shell = Shell(plain)
        self.scale = scale
        own = () if scale is None else (ScaleUse(scale),)
        self.scale_uses: list[ScaleUse] = [*own, *scale_uses]
        check_uses(where, self.scale_uses, self._inputs())

    def _set_parameters(self, plain: nn.Module, logvar: float) -> None:
        weight, bias = plain.weight, getattr(plain, "bias", None)
        assert isinstance(weight, Tensor)
        self.weight_mean = nn.Parameter(weight.detach(), requires_grad=weight.requires_grad)
        self.weight_logvar = nn.Parameter(torch.full_like(weight.detach(), logvar))
        if bias is None:
            self.register_parameter("bias_mean", None)
            self.register_parameter("bias_logvar", None)
        else:
            assert isinstance(bias, Tensor)
            self.bias_mean = nn.Parameter(bias.detach(), requires_grad=bias.requires_grad)
            self.bias_logvar = nn.Parameter(torch.full_like(bias.detach(), logvar))

    @abstractmethod
    def _set_geometry(self, plain: nn.Module) -> None:
        """Copy the constructor fields that are not shapes of parameters."""

    @abstractmethod
    def _inputs(self) -> int:
        """How many input units the layer reads."""

    @abstractmethod
    def _prepare(self, x: Tensor) -> Tensor:
        """Padding that is not with zeros."""

    @abstractmethod
    def _fold(self, weight: Tensor, factor: Tensor) -> Tensor:
        """``weight`` times a factor per input unit."""

    @abstractmethod
    def plain_fields(self) -> dict[str, Any]:
        """What the constructor of ``plain_class`` is called with, device and dtype aside."""

    # --- forward -----------------------------------------------------------------------------

    def _forward(self, x: Tensor, apply: LinearMap) -> Tensor:
        """The output, given the plain layer's function of a prepared input, a weight and a bias."""
        if self.training or self.sampling:
            return self._sampled(x, apply)
        factor = product_of_means(self.scale_uses)
        if factor is not None:
            x = x * self._aligned(factor, x)
        return apply(self._prepare(x), self.weight_mean, self.bias_mean)

    def _sampled(self, x: Tensor, apply: LinearMap) -> Tensor:
        factor = product_of_draws(self.scale_uses, self._examples(x))
        if factor is not None:
            x = x * self._aligned(factor, x)
        if self.noise == "weights":
            return apply(self._prepare(x), *self._drawn())
        mean, variance = output_moments(
            apply,
            self._prepare(x),
            self.weight_mean,
            self.weight_logvar.exp(),
            self.bias_mean,
            self._bias_variance(),
        )
        return sample_outputs(mean, variance, standard_normal_like(mean))

    def _drawn(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias, drawn once."""
        weight, *bias = (sample_weights(m, v) for m, v in zip(*self.posterior(), strict=True))
        return weight, bias[0] if bias else None

    def _bias_variance(self) -> Tensor:
        """Variance of the bias plus eps: one addition per output unit instead of one per output."""
        if self.bias_logvar is None:
            outputs = self.weight_mean.shape[self.output_axis]
            if self.output_axis:
                outputs *= int(getattr(self, "groups", 1))
            return self.weight_mean.new_full((outputs,), self.variance_eps)
        return self.bias_logvar.exp() + self.variance_eps

    def _is_batched(self, x: Tensor) -> bool:
        return x.dim() > self.spatial_dims + 1

    def _examples(self, x: Tensor) -> int:
        return x.shape[0] if self._is_batched(x) else 1

    def _aligned(self, factor: Tensor, x: Tensor) -> Tensor:
        """``factor`` ([in] or [batch, in]) shaped to multiply ``x``, in the type of ``x``."""
        factor = factor.to(x.dtype)
        inputs = factor.shape[-1]
        if factor.dim() == 2 and self._is_batched(x):
            between = [1] * (x.dim() - 2 - self.spatial_dims)
            return factor.view(factor.shape[0], *between, inputs, *[1] * self.spatial_dims)
        return factor.reshape(inputs, *[1] * self.spatial_dims)

    # --- what others ask -----------------------------------------------------------------------

    @property
    def weight(self) -> Float[Tensor, "..."]:
        """The weights a plain layer would have: weight_mean times E z of the input they read."""
        factor = product_of_means(self.scale_uses)
        return self.weight_mean if factor is None else self._fold(self.weight_mean, factor)

    def scale_moments(self) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
        """E z and E z² of the input that each weight reads, in the shape of the weights."""
        first = torch.ones_like(self.weight_mean)
        second = torch.ones_like(self.weight_mean)
        for use in self.scale_uses:
            first = self._fold(first, use.mean())
            second = self._fold(second, use.second_moment())
        return first, second

    @property
    def bias(self) -> Float[Tensor, " out"] | None:
        """The bias a plain layer would have."""
        return self.bias_mean

    def kl_nats(self) -> Float[Tensor, ""]:
        """KL of weights and bias, plus that of the layer's own ``scale`` if it has one, nats.

        Scales in ``scale_uses`` that belong to somebody else are theirs to count; for a whole network
        use ``total_kl_nats``, which counts every scale once.
        """
        kl = self.weight_kl_nats()
        return kl if self.scale is None else kl + self.scale.kl_nats()

    def posterior(self) -> tuple[list[Tensor], list[Tensor]]:
        """The means and the log-variances of weight and, if there is one, bias."""
        if self.bias_mean is None or self.bias_logvar is None:
            return [self.weight_mean], [self.weight_logvar]
        return [self.weight_mean, self.bias_mean], [self.weight_logvar, self.bias_logvar]

    def weight_kl_nats(self) -> Float[Tensor, ""]:
        """KL of weights and bias given z, nats."""
        return sum_kl_standard_normal(*self.posterior())

    @torch.no_grad()
    def plain(self) -> nn.Module:
        """The plain layer of the posterior mean, scales folded in; of the class it was made from."""
        tensors = {"weight": nn.Parameter(self.weight.clone(), self.weight_mean.requires_grad)}
        if self.bias_mean is not None:
            tensors["bias"] = nn.Parameter(self.bias_mean.clone(), self.bias_mean.requires_grad)
        fields = {name: value for name, value in self.plain_fields().items() if name != "bias"}
        return self._shell.filled(tensors, attributes=fields).train(self.training)

    @torch.no_grad()
    def clamp_(self) -> None:
        """Put log-variances (those of an own scale too) back within their bounds, in place."""
        if self.logvar_min is not None or self.logvar_max is not None:
            for logvar in (self.weight_logvar, self.bias_logvar):
                if logvar is not None:
                    logvar.clamp_(self.logvar_min, self.logvar_max)
        if self.scale is not None:
            self.scale.clamp_()

    def extra_repr(self) -> str:
        """What ``print(layer)`` shows."""
        return ", ".join(f"{name}={value!r}" for name, value in self.plain_fields().items())
