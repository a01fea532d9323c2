"""A plain torch layer to its variational counterpart and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from epigram.errors import UnsupportedModelError
from epigram.layers.base import VariationalLayer
from epigram.layers.conv import VariationalConv1d, VariationalConv2d, VariationalConv3d
from epigram.layers.conv_transpose import (
    VariationalConvTranspose1d,
    VariationalConvTranspose2d,
    VariationalConvTranspose3d,
)
from epigram.layers.linear import VariationalLinear
from epigram.layers.scaling import ScaleUse
from epigram.maths.kl import sum_kl_standard_normal
from epigram.priors import GroupScale

TWINS: dict[type[nn.Module], type[VariationalLayer]] = {
    twin.plain_class: twin
    for twin in (
        VariationalLinear,
        VariationalConv1d,
        VariationalConv2d,
        VariationalConv3d,
        VariationalConvTranspose1d,
        VariationalConvTranspose2d,
        VariationalConvTranspose3d,
    )
}
"""The plain class -> its variational counterpart."""


def from_plain(
    module: nn.Module,
    *,
    scale_uses: Sequence[ScaleUse] = (),
    logvar_init: float = -9.0,
    logvar_min: float | None = None,
    logvar_max: float | None = None,
    variance_eps: float = 1e-8,
) -> VariationalLayer:
    """The variational counterpart of a plain layer; the means are copies of its weights.

    Args:
        module: a layer whose class is exactly one of ``TWINS``.
        scale_uses: the scales that act on its inputs.
        logvar_init: initial log-variance of weights and bias.
        logvar_min: lower bound that ``clamp_`` enforces on log-variances; None = no bound.
        logvar_max: upper bound likewise.
        variance_eps: added to every output's variance, inside the root.

    Raises:
        UnsupportedModelError: no counterpart exists, the layer's weights are computed (a
            parametrisation) or not there yet (a lazy layer).
        ConfigError: a scale does not fit the layer's inputs.

    Example:
        >>> layer = from_plain(nn.Linear(3, 2))
        >>> type(layer).__name__, type(to_plain(layer)).__name__
        ('VariationalLinear', 'Linear')
    """
    kind = type(module)
    twin = TWINS.get(kind)
    if twin is None:
        raise UnsupportedModelError(
            f"from_plain: got {kind.__module__}.{kind.__qualname__}, expected exactly one of "
            f"{', '.join(sorted(k.__name__ for k in TWINS))}; leave it plain or write its twin"
        )
    _check_weights(module)
    layer = twin.__new__(twin)
    VariationalLayer.__init__(
        layer,
        module,
        scale_uses=scale_uses,
        logvar_init=logvar_init,
        logvar_min=logvar_min,
        logvar_max=logvar_max,
        variance_eps=variance_eps,
    )
    for name in ("weight_mean", "bias_mean"):
        parameter = getattr(layer, name)
        if parameter is not None:
            parameter.data = parameter.data.clone()
    return layer.train(module.training)


def to_plain(layer: VariationalLayer) -> nn.Module:
    """The plain torch layer of the posterior mean, scales folded in on the input axis.

    Where E z is exactly 1, the weights are the means bit for bit.

    Args:
        layer: the variational layer; it is not changed.
    """
    plain = layer.plain_class(
        **layer.plain_fields(), device=layer.weight_mean.device, dtype=layer.weight_mean.dtype
    )
    with torch.no_grad():
        assert isinstance(plain.weight, Tensor)
        plain.weight.copy_(layer.weight)
        plain.weight.requires_grad_(layer.weight_mean.requires_grad)
        if layer.bias_mean is not None:
            assert isinstance(plain.bias, Tensor)
            plain.bias.copy_(layer.bias_mean)
            plain.bias.requires_grad_(layer.bias_mean.requires_grad)
    return plain.train(layer.training)


def variational_layers(module: nn.Module) -> list[VariationalLayer]:
    """All variational layers in ``module``, itself included, each once."""
    return [m for m in module.modules() if isinstance(m, VariationalLayer)]


def scales_of(module: nn.Module) -> list[GroupScale]:
    """All scales in ``module`` or read by its layers, each once."""
    found: dict[GroupScale, None] = {}
    for child in module.modules():
        if isinstance(child, GroupScale):
            found[child] = None
        if isinstance(child, VariationalLayer):
            found.update(dict.fromkeys(use.scale for use in child.scale_uses))
    return list(found)


def total_kl_nats(module: nn.Module) -> Float[Tensor, ""]:
    """KL of a whole network, nats: every layer's weights and biases, and every scale once.

    Args:
        module: a network that holds variational layers.

    Raises:
        UnsupportedModelError: it holds none.
    """
    layers = variational_layers(module)
    if not layers:
        raise UnsupportedModelError(
            f"total_kl_nats: got a {type(module).__name__} without a variational layer; "
            "convert it first"
        )
    means, logvars = zip(*(layer.posterior() for layer in layers), strict=True)
    kl = sum_kl_standard_normal(list(chain(*means)), list(chain(*logvars)))
    for scale in scales_of(module):
        kl = kl + scale.kl_nats()
    return kl


@contextmanager
def sampling(module: nn.Module) -> Iterator[None]:
    """Within the block the layers of ``module`` sample in ``eval()`` mode too; restored afterwards.

    Args:
        module: a network that holds variational layers.
    """
    layers = variational_layers(module)
    before = [layer.sampling for layer in layers]
    try:
        for layer in layers:
            layer.sampling = True
        yield
    finally:
        for layer, value in zip(layers, before, strict=True):
            layer.sampling = value


def _check_weights(module: nn.Module) -> None:
    where = f"from_plain: {type(module).__name__}"
    own = dict(module.named_parameters(recurse=False))
    if hasattr(module, "parametrizations") or "weight" not in own:
        raise UnsupportedModelError(
            f"{where}: its weight is computed from other tensors (weight or spectral "
            "normalisation?), expected a plain parameter; remove the parametrisation first"
        )
    if isinstance(own["weight"], UninitializedParameter):
        raise UnsupportedModelError(
            f"{where}: its weight has no shape yet; run the model once before converting"
        )
