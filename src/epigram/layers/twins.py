"""A plain torch layer to its variational counterpart and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parameter import UninitializedParameter

from epigram.errors import UnsupportedModelError
from epigram.layers.base import VariationalLayer
from epigram.layers.conv import VariationalConv1d, VariationalConv2d, VariationalConv3d
from epigram.layers.conv_transpose import (
    VariationalConvTranspose1d,
    VariationalConvTranspose2d,
    VariationalConvTranspose3d,
)
from epigram.layers.embedding import VariationalEmbedding
from epigram.layers.linear import VariationalLinear
from epigram.layers.parameters import Variances, sum_weight_kl_nats
from epigram.layers.scaling import ScaleUse
from epigram.layers.transposed import VariationalTransposedLinear, is_hugging_face_conv1d
from epigram.priors import GroupScale

NORMALISATION = "normalisation: its few parameters stay as they are"
"""Why a normalisation layer stays deterministic."""

_COMPUTES = ("forward", "_conv_forward", "__call__", "_call_impl", "__getattr__")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_NORMALISATIONS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)

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
        VariationalEmbedding,
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
    variances: Variances = "each",
) -> VariationalLayer:
    """The variational counterpart of a plain layer; the means are copies of its weights.

    Args:
        module: a layer for which ``why_deterministic`` has no reason.
        scale_uses: the scales that act on its inputs.
        logvar_init: initial log-variance of weights and bias.
        logvar_min: lower bound that ``clamp_`` enforces on log-variances; None = no bound.
        logvar_max: upper bound likewise.
        variance_eps: added to every output's variance, inside the root.
        variances: "each" weight has one of its own, or they are "tied" where the layer can.

    Raises:
        UnsupportedModelError: no counterpart exists, the layer's weights are computed (a
            parametrisation) or not there yet (a lazy layer).
        ConfigError: a scale does not fit the layer's inputs.

    Example:
        >>> layer = from_plain(nn.Linear(3, 2))
        >>> type(layer).__name__, type(to_plain(layer)).__name__
        ('VariationalLinear', 'Linear')
    """
    reason, twin = why_deterministic(module), twin_class(module)
    if reason is not None or twin is None:
        kind = type(module)
        raise UnsupportedModelError(
            f"from_plain: got {kind.__module__}.{kind.__qualname__}: {reason}; expected one of "
            f"{', '.join(sorted(k.__name__ for k in TWINS))}; leave it plain or write its twin"
        )
    layer = twin.__new__(twin)
    VariationalLayer.__init__(
        layer,
        module,
        scale_uses=scale_uses,
        logvar_init=logvar_init,
        logvar_min=logvar_min,
        logvar_max=logvar_max,
        variance_eps=variance_eps,
        variances=variances,
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
    return layer.plain()


def twin_class(module: nn.Module) -> type[VariationalLayer] | None:
    """The counterpart's class: of the layer's own class, or of the one whose ``forward`` it has."""
    if is_hugging_face_conv1d(module):
        return VariationalTransposedLinear
    line = type(module).__mro__
    base = next((kind for kind in line if kind in TWINS), None)
    if base is None:
        return None
    own = line[: line.index(base)]
    inherits = not any(name in vars(kind) for kind in own for name in _COMPUTES)
    return TWINS[base] if inherits or _writes_out_linear(module) else None


def _writes_out_linear(module: nn.Module) -> bool:
    """Does a subclass of ``nn.Linear`` compute ``x Wᵀ + b`` in a forward of its own (``x @ W.T + b``)?

    Judged on random inputs, in either mode; with any other tensor or module inside it may do something
    else later, and counts as different.
    """
    tensors = [*module.named_parameters(), *module.named_buffers()]
    if not isinstance(module, nn.Linear) or {n for n, _ in tensors} - {"weight", "bias"}:
        return False
    weight = module._parameters.get("weight")  # noqa: SLF001 - a lazy one must not be made
    if weight is None or isinstance(weight, UninitializedParameter) or weight.is_meta:
        return False
    if next(module.children(), None) is not None:
        return False
    before = module.training
    generator = torch.Generator().manual_seed(0)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            for training, shape in ((True, (3,)), (False, (2, 3)), (False, (3,))):
                x = torch.randn(*shape, weight.shape[1], generator=generator).to(weight)
                module.training = training
                ours, expected = module.forward(x), F.linear(x, weight, module.bias)
                torch.testing.assert_close(ours, expected)
    except Exception:  # noqa: BLE001 - forward is the user's, it may raise anything
        return False
    finally:
        module.training = before
    return True


def why_deterministic(module: nn.Module) -> str | None:
    """Why a single layer cannot have a variational counterpart; None = it can.

    The rules are those of ``docs/twins.md``; what depends on the network around the layer (ties,
    exclusions, frozen parameters) is up to ``convert``.
    """
    if isinstance(module, _NORMALISATIONS) or type(module).__name__.endswith("Norm"):
        return NORMALISATION
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return "recurrent: its weights are used at every step of a sequence"
    own = dict(module.named_parameters(recurse=False))
    if twin_class(module) is None:
        inherits = next((kind for kind in type(module).__mro__ if kind in TWINS), None)
        if inherits is not None:
            return f"a {inherits.__name__} with a forward of its own"
        return "no variational counterpart"
    if hasattr(module, "parametrizations") or "weight" not in own:
        return "its weight is computed in forward (weight or spectral normalisation, a mask)"
    if isinstance(own["weight"], UninitializedParameter):
        return "its weight has no shape yet; run the model once before converting"
    hooks = (name for name in _HOOKS if vars(module)[name])
    if (found := next(hooks, None)) is not None:
        return f"it has {found.strip('_').replace('_', ' ')}, which a counterpart would not call"
    if isinstance(module, nn.Embedding):
        return _why_not_embedding(module)
    return None


def _why_not_embedding(module: nn.Embedding) -> str | None:
    odd = {
        "padding_idx": module.padding_idx is not None,
        "max_norm": module.max_norm is not None,
        "scale_grad_by_freq": module.scale_grad_by_freq,
        "sparse": module.sparse,
    }
    named = next((name for name, is_set in odd.items() if is_set), None)
    return None if named is None else f"an embedding with {named}: rows are treated differently"


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
    kl = sum_weight_kl_nats(layers)
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
