"""The thin shell all variational layers share.

        x ──▶ × z (drawn per example) ──▶ f(·;  weight_mean)  ──▶ mean ─────┐
                     │                                                      ├─▶ mean + √var · noise
                     └──▶ square ───────▶ f(·; exp weight_logvar) ──▶ var ──┘

With tied variances f(x²; ·) has one output, which all share: var = exp weight_output_logvar · f(x²; exp weight_input_logvar).

train(), sampling():  as drawn.        eval():  f(x · E z; weight_mean), deterministic.

With ``noise`` "weights" the weights are drawn instead, once for the batch: f(x · z; weight_mean + √exp weight_logvar · noise).
Where z is drawn once, too, it goes into the weights, and the step is a plain layer's but for them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from epigram.errors import ConfigError
from epigram.layers.parameters import PosteriorParameters, Variances
from epigram.layers.scaling import ScaleUse, check_uses, product_of_draws, product_of_means
from epigram.layers.shell import Shell
from epigram.maths.moments import (
    LinearMap,
    output_moments,
    sample_outputs,
    standard_normal_like,
)
from epigram.maths.tied import sample_tied_outputs
from epigram.priors import GroupScale
from epigram.priors.base import check_bounds, checked_start

Noise: TypeAlias = Literal["outputs", "weights"]
MaybeTensor = TypeVar("MaybeTensor", Tensor, Tensor | None)


class VariationalLayer(PosteriorParameters, ABC):
    """A linear layer with independent normal posteriors over weights and bias.

    q(w | z) = N(z · weight_mean, z² · exp weight_logvar) with the prior N(0, z²), where z is the scale
    of the input unit the weight reads; the bias has the prior N(0, 1). ``scale_uses`` is a plain list
    that may be replaced; scales in it are not submodules of the layer. So may ``noise``: "outputs" draws
    those of every example apart, "weights" the weights, once a call: half the arithmetic, gradients that vary more.
    And ``example_axis``: which axis of the input holds the examples, each with a z of its own.

    Args:
        plain: the torch layer this one is the counterpart of; its starting weights become the means.
        scale: a scale that becomes the submodule ``scale`` of this layer, one unit per input.
        scale_uses: scales that belong to somebody else.
        logvar_init: initial log-variance of weights and bias. The default, -9, is customary; it costs
            4 nats a weight, so a converted network starts better where its data put it.
        logvar_min: lower bound that ``clamp_`` enforces on log-variances; None = no bound.
        logvar_max: upper bound likewise.
        variance_eps: added to every output's variance, inside the root.
        variances: "each" weight has one of its own; or they are "tied", where the layer can and a group
            has more than one output.

    Raises:
        ConfigError: a scale does not fit the inputs, or a bound or start makes no sense.
    """

    plain_class: ClassVar[type[nn.Module]]
    input_axis: ClassVar[int] = 1
    spatial_dims: ClassVar[int] = 0

    example_axis: int = 0

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
        variances: Variances = "each",
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
        self._set_geometry(plain)
        self._set_parameters(plain, start, variances)
        self._shell = Shell(plain)
        self.scale = scale
        own = () if scale is None else (ScaleUse(scale),)
        self.scale_uses: list[ScaleUse] = [*own, *scale_uses]
        check_uses(where, self.scale_uses, self._inputs())

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

    def _forward(self, x: Tensor, apply: LinearMap, part: slice | None = None) -> Tensor:
        """The output, given the plain layer's function of a prepared input, a weight and a bias.

        With ``part`` only those outputs, which then are on axis 0 of the weight.
        """
        if self.training or self.sampling:
            return self._sampled(x, apply, part)
        if self.spatial_dims:  # inputs have more elements than filters
            return apply(self._prepare(x), _only(part, self.weight), _only(part, self.bias_mean))
        factor = product_of_means(self.scale_uses)
        if factor is not None:
            x = x * self._aligned(factor, x)
        x = self._prepare(x)
        return apply(x, _only(part, self.weight_mean), _only(part, self.bias_mean))

    def _sampled(self, x: Tensor, apply: LinearMap, part: slice | None) -> Tensor:
        factor = product_of_draws(self.scale_uses, self._examples(x))
        if self.noise == "weights":
            weight, bias = self._drawn()
            if factor is not None and factor.shape[0] == 1:
                weight, factor = self._fold(weight, factor[0]), None
            if factor is not None:
                x = x * self._aligned(factor, x)
            return apply(self._prepare(x), _only(part, weight), _only(part, bias))
        if factor is not None:
            x = x * self._aligned(factor, x)
        x = self._prepare(x)
        weight, bias = _only(part, self.weight_mean), _only(part, self.bias_mean)
        floor = _only(part, self._bias_variance())
        if self.weight_logvar is None:
            mean = apply(x, weight, bias)
            shared, factor = self._shared_variance(x.to(mean.dtype), apply), self._output_factor()
            noise, axis = standard_normal_like(mean), -1 - self.spatial_dims
            return sample_tied_outputs(mean, shared, _only(part, factor), floor, noise, axis=axis)
        weight_variance = _only(part, self.weight_logvar.exp())
        mean, variance = output_moments(apply, x, weight, weight_variance, bias, floor)
        return sample_outputs(mean, variance, standard_normal_like(mean))

    def _shared_variance(self, x: Tensor, apply: LinearMap) -> Tensor:
        """Σ x² exp inputs, which the outputs of a group share: one for each group."""
        assert self.weight_input_logvar is not None
        return apply(x.square(), self.weight_input_logvar.exp(), None)

    def _is_batched(self, x: Tensor) -> bool:
        return x.dim() > self.spatial_dims + 1 + self.example_axis

    def _examples(self, x: Tensor) -> int:
        return x.shape[self.example_axis] if self._is_batched(x) else 1

    def _aligned(self, factor: Tensor, x: Tensor) -> Tensor:
        """``factor`` ([in] or [batch, in]) shaped to multiply ``x``, in the type of ``x``."""
        factor = factor.to(x.dtype)
        inputs = factor.shape[-1]
        if factor.dim() == 2 and self._is_batched(x):
            shape = [1] * x.dim()
            shape[self.example_axis], shape[-1 - self.spatial_dims] = factor.shape
            return factor.view(shape)
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
        self._clamp_parameters_()
        if self.scale is not None:
            self.scale.clamp_()

    def extra_repr(self) -> str:
        """What ``print(layer)`` shows."""
        return ", ".join(f"{name}={value!r}" for name, value in self.plain_fields().items())


def _only(part: slice | None, tensor: MaybeTensor) -> MaybeTensor:
    return tensor if part is None or tensor is None else tensor[part]
