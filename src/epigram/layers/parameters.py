"""The parameters of a layer's posterior: means, and variances for each weight or tied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from epigram.maths.kl import sum_kl_standard_normal
from epigram.maths.moments import sample_weights
from epigram.maths.tied import clamp_sum_, sum_kl_tied_normal

Variances: TypeAlias = Literal["each", "tied"]


class PosteriorParameters(nn.Module):
    """Independent normal posteriors over the weight and the bias of a layer.

    With variances for "each" weight ``weight_logvar`` has the weight's shape. With "tied" ones the
    log-variance is ``weight_output_logvar + weight_input_logvar``: one number for each output, and one for each
    input and place in a filter, of size 1 along the axes they do not depend on (``maths.tied``). All of it starts in
    the outputs' part. What groups of a convolution have in common is what the weight has no axis for: the
    inputs' part, in a transposed one the outputs'.

    The gradient of a part is the sum over the weights it serves. That makes no difference to Adam; plain SGD
    takes steps as many times larger.
    """

    output_axis: ClassVar[int] = 0
    can_tie: ClassVar[bool] = True

    logvar_min: float | None
    logvar_max: float | None
    variance_eps: float

    weight_mean: nn.Parameter
    weight_logvar: nn.Parameter | None
    weight_output_logvar: nn.Parameter | None
    weight_input_logvar: nn.Parameter | None
    bias_mean: nn.Parameter | None
    bias_logvar: nn.Parameter | None

    def _set_parameters(self, plain: nn.Module, logvar: float, variances: Variances) -> None:
        weight, bias = plain.weight, getattr(plain, "bias", None)
        assert isinstance(weight, Tensor)
        self.weight_mean = nn.Parameter(weight.detach(), requires_grad=weight.requires_grad)
        if variances == "tied" and self.can_tie and self._outputs() > self._groups():
            outputs, inputs = [1] * weight.dim(), list(weight.shape)
            outputs[self.output_axis], inputs[self.output_axis] = weight.shape[self.output_axis], 1
            self.register_parameter("weight_logvar", None)
            self.weight_output_logvar = nn.Parameter(weight.new_full(outputs, logvar))
            self.weight_input_logvar = nn.Parameter(weight.new_zeros(inputs))
        else:
            self.weight_logvar = nn.Parameter(torch.full_like(weight.detach(), logvar))
            self.register_parameter("weight_output_logvar", None)
            self.register_parameter("weight_input_logvar", None)
        if bias is None:
            self.register_parameter("bias_mean", None)
            self.register_parameter("bias_logvar", None)
        else:
            assert isinstance(bias, Tensor)
            self.bias_mean = nn.Parameter(bias.detach(), requires_grad=bias.requires_grad)
            self.bias_logvar = nn.Parameter(torch.full_like(bias.detach(), logvar))

    # --- sampling ----------------------------------------------------------------------------------

    def _output_factor(self) -> Tensor:
        """What multiplies the shared variance, for each output."""
        assert self.weight_output_logvar is not None
        factor = self.weight_output_logvar.exp().view(-1)
        # the groups of a transposed convolution have it in common
        return factor.repeat(self._groups()) if self.output_axis else factor

    def _drawn(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias, drawn once."""
        weight, *bias = (sample_weights(m, v) for m, v in zip(*self.posterior(), strict=True))
        return weight, bias[0] if bias else None

    def _bias_variance(self) -> Tensor:
        """Variance of the bias plus eps: one addition per output unit instead of one per output."""
        if self.bias_logvar is None:
            return self.weight_mean.new_full((self._outputs(),), self.variance_eps)
        return self.bias_logvar.exp() + self.variance_eps

    def _groups(self) -> int:
        return int(getattr(self, "groups", 1))

    def _outputs(self) -> int:
        outputs = self.weight_mean.shape[self.output_axis]
        return outputs * self._groups() if self.output_axis else outputs

    # --- what others ask -----------------------------------------------------------------------

    def weight_log_variance(self) -> Float[Tensor, "..."]:
        """The log-variance of each weight, in the weights' shape."""
        if self.weight_logvar is not None:
            return self.weight_logvar
        assert self.weight_output_logvar is not None and self.weight_input_logvar is not None
        return self.weight_output_logvar + self.weight_input_logvar

    def posterior(self) -> tuple[list[Tensor], list[Tensor]]:
        """The means and the log-variances of weight and, if there is one, bias."""
        if self.bias_mean is None or self.bias_logvar is None:
            return [self.weight_mean], [self.weight_log_variance()]
        return [self.weight_mean, self.bias_mean], [self.weight_log_variance(), self.bias_logvar]

    def parameters_of(self, tensor: str) -> list[nn.Parameter]:
        """What the posterior of ``weight`` or ``bias`` consists of; the mean comes first.

        Each has as many axes as the tensor, and size 1 along those it does not depend on.
        """
        named = self.named_parameters(recurse=False)
        return [parameter for name, parameter in named if name.startswith(f"{tensor}_")]

    def weight_kl_nats(self) -> Float[Tensor, ""]:
        """KL of weights and bias given z, nats."""
        return sum_weight_kl_nats([self])

    def _clamp_parameters_(self) -> None:
        low, high = self.logvar_min, self.logvar_max
        if low is not None or high is not None:
            for logvar in (self.weight_logvar, self.bias_logvar):
                if logvar is not None:
                    logvar.clamp_(low, high)
            if self.weight_output_logvar is not None and self.weight_input_logvar is not None:
                clamp_sum_(self.weight_output_logvar, self.weight_input_logvar, low, high)


def sum_weight_kl_nats(layers: Sequence[PosteriorParameters]) -> Float[Tensor, ""]:
    """KL of all layers' weights and biases given z, one operation for each kind of variances, nats."""
    each: list[tuple[Tensor, Tensor]] = []
    tied: list[tuple[Tensor, Tensor, Tensor]] = []
    for layer in layers:
        outputs, inputs = layer.weight_output_logvar, layer.weight_input_logvar
        if outputs is not None and inputs is not None:
            tied.append((layer.weight_mean, outputs, inputs))
        if layer.weight_logvar is not None:
            each.append((layer.weight_mean, layer.weight_logvar))
        if layer.bias_mean is not None and layer.bias_logvar is not None:
            each.append((layer.bias_mean, layer.bias_logvar))
    kl = sum_kl_standard_normal(*zip(*each, strict=True)) if each else None
    if not tied:
        assert kl is not None
        return kl
    more = sum_kl_tied_normal(*zip(*tied, strict=True))
    return more if kl is None else kl + more
