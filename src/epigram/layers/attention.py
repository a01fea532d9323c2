"""The variational counterpart of nn.MultiheadAttention.

    query ─▶ q ┐
    key   ─▶ k ├─▶ softmax(q kᵀ / √d + masks) ─▶ dropout ─▶ · v ─▶ out_proj
    value ─▶ v ┘

The projections are variational linear layers, one for all three (``in_proj``) or one each; a scale acts
on what each of them reads. What is in between has no parameters.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from epigram.errors import ConfigError, UnsupportedModelError
from epigram.layers.base import VariationalLayer
from epigram.layers.linear import VariationalLinear
from epigram.layers.shell import Shell
from epigram.layers.twins import from_plain
from epigram.structure.attention import NarrowAttention, fit_attention_

_PACKED, _SEPARATE = ("in_proj",), ("q_proj", "k_proj", "v_proj")


def why_attention_stays(module: nn.MultiheadAttention) -> str | None:
    """Why an attention cannot have a variational counterpart; None = it can."""
    if type(module) not in (nn.MultiheadAttention, NarrowAttention):
        return "a MultiheadAttention of a class of its own"
    if module.bias_k is not None or module.add_zero_attn:
        return "attention with bias_k, bias_v or add_zero_attn"
    if hasattr(module, "parametrizations") or hasattr(module.out_proj, "parametrizations"):
        return "its weights are computed in forward"
    if vars(module)["_forward_hooks"] or vars(module)["_forward_pre_hooks"]:
        return "it has forward hooks, which a counterpart would not call"
    return None


class VariationalMultiheadAttention(nn.Module):
    """``nn.MultiheadAttention`` whose projections have posteriors.

    Heads may leave: how many there are is read off the projections, their width stays. Where key and
    value have widths of their own (``kdim``, ``vdim``), the joint ``in_proj_bias`` stays deterministic.

    Args:
        plain: the original; it is not changed.
        settings: start and bounds of the projections' posteriors, as for ``VariationalLinear``.

    Raises:
        UnsupportedModelError: ``why_attention_stays`` has a reason.

    Example:
        >>> attention = VariationalMultiheadAttention(nn.MultiheadAttention(8, 2, batch_first=True))
        >>> x = torch.ones(3, 5, 8)
        >>> tuple(attention(x, x, x)[0].shape)
        (3, 5, 8)
    """

    # read by torch's encoder layers, which must not take their fast path: it would skip our forward
    _qkv_same_embed_dim = False

    joint_bias: nn.Parameter | None

    def __init__(self, plain: nn.MultiheadAttention, **settings: Any) -> None:
        super().__init__()
        reason = why_attention_stays(plain)
        if reason is not None:
            raise UnsupportedModelError(
                f"VariationalMultiheadAttention: {reason}; expected a plain nn.MultiheadAttention"
            )
        self.embed_dim, self.head_dim = plain.embed_dim, plain.head_dim
        self.dropout, self.batch_first = plain.dropout, plain.batch_first
        self.packed = plain.in_proj_weight is not None
        self._shell = Shell(plain)
        for name in _PACKED if self.packed else _SEPARATE:
            weight = getattr(plain, f"{name}_weight")
            bias = plain.in_proj_bias if self.packed else None
            self.add_module(name, from_plain(_as_linear(weight, bias), **settings))
        self.out_proj = from_plain(plain.out_proj, **settings)
        joint = None if self.packed else plain.in_proj_bias
        copied = (
            None if joint is None else nn.Parameter(joint.detach().clone(), joint.requires_grad)
        )
        self.joint_bias = copied
        self.train(plain.training)
        self.out_proj.train(plain.out_proj.training)

    @property
    def in_proj_bias(self) -> Tensor | None:
        """The bias of query, key and value in one; torch's encoder layers ask for it."""
        return self.joint_bias if not self.packed else self._layer("in_proj").bias_mean

    def _layer(self, name: str) -> VariationalLinear:
        layer = self.get_submodule(name)
        assert isinstance(layer, VariationalLinear)
        return layer

    def _inner(self) -> int:
        return int(self.out_proj.weight_mean.shape[1])

    @property
    def num_heads(self) -> int:
        """Heads that are left."""
        heads: int = self._inner() // self.head_dim
        return heads

    def forward(
        self,
        query: Float[Tensor, "..."],
        key: Float[Tensor, "..."],
        value: Float[Tensor, "..."],
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As ``nn.MultiheadAttention``; sampled in ``train()``, of the posterior mean in ``eval()``.

        Raises:
            ConfigError: a mask has the wrong shape, or ``is_causal`` comes without a mask.
        """
        if is_causal and attn_mask is None:
            raise ConfigError("attention: got is_causal without attn_mask, expected both")
        batched = query.dim() == 3
        q, k, v = (self._heads(t) for t in self._projected(query, key, value))
        mask = self._mask(q, k, attn_mask, key_padding_mask, batched)
        weights = None
        if need_weights:
            weights = self._weights(q, k, mask)
            mixed = F.dropout(weights, self.dropout, self.training) @ v
        else:
            dropout = self.dropout if self.training else 0.0
            mixed = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        out = self.out_proj(self._joined(mixed, batched))
        if weights is not None:
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights if batched else weights.squeeze(0)
        return out, weights

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        if not self.packed:
            biases = [None] * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
            layers = [self._layer(name) for name in _SEPARATE]
            parts = zip(layers, (query, key, value), biases, strict=True)
            return [layer(x) if b is None else layer(x) + b for layer, x, b in parts]
        layer = self._layer("in_proj")
        width = layer.out_features // 3
        if query is key and key is value:
            return list(torch.split(layer(query), width, -1))
        if key is value:
            return [
                layer.rows(query, 0, width),
                *torch.split(layer.rows(key, width, 3 * width), width, -1),
            ]
        return [
            layer.rows(x, i * width, (i + 1) * width) for i, x in enumerate((query, key, value))
        ]

    def _heads(self, x: Tensor) -> Tensor:
        """To [batch, heads, length, head_dim]."""
        x = torch.unflatten(x, -1, (-1, self.head_dim))
        if x.dim() == 3:
            return x.transpose(0, 1).unsqueeze(0)
        return x.transpose(1, 2) if self.batch_first else x.permute(1, 2, 0, 3)

    def _joined(self, x: Tensor, batched: bool) -> Tensor:
        if not batched:
            return x.squeeze(0).transpose(0, 1).flatten(-2)
        x = x.transpose(1, 2) if self.batch_first else x.permute(2, 0, 1, 3)
        return x.flatten(-2)

    def _weights(self, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
        scores = (q * math.sqrt(1.0 / self.head_dim)) @ k.transpose(-2, -1)
        return torch.softmax(scores if mask is None else scores + mask, -1)

    def _mask(
        self,
        q: Tensor,
        k: Tensor,
        attn_mask: Tensor | None,
        key_padding_mask: Tensor | None,
        batched: bool,
    ) -> Tensor | None:
        """Both masks as one that is added to the scores, [batch or 1, heads or 1, length or 1, source]."""
        batch, heads, length, source = *q.shape[:3], k.shape[2]
        merged = None
        if attn_mask is not None:
            shape = (1, 1) if attn_mask.dim() == 2 else (batch, heads)
            if attn_mask.shape not in ((length, source), (batch * heads, length, source)):
                raise ConfigError(
                    f"attention: got attn_mask of shape {list(attn_mask.shape)}, expected "
                    f"{[length, source]} or {[batch * heads, length, source]}"
                )
            merged = _added(attn_mask, q.dtype).view(*shape, length, source)
        if key_padding_mask is not None:
            expected = (batch, source) if batched else (source,)
            if key_padding_mask.shape != expected:
                raise ConfigError(
                    f"attention: got key_padding_mask of shape {list(key_padding_mask.shape)}, "
                    f"expected {list(expected)}"
                )
            padding = _added(key_padding_mask, q.dtype).view(batch, 1, 1, source)
            merged = padding if merged is None else merged + padding
        return merged

    @torch.no_grad()
    def plain(self) -> nn.Module:
        """The ordinary attention of the posterior mean, scales folded in.

        With heads missing it is what the surgery makes of one, ``structure.attention.NarrowAttention``.
        """
        tensors: dict[str, nn.Parameter | None] = {}
        for name in _PACKED if self.packed else _SEPARATE:
            linear = getattr(self, name).plain()
            tensors[f"{name}_weight"] = linear.weight
            if self.packed:
                tensors["in_proj_bias"] = linear.bias
        if self.joint_bias is not None:
            bias = self.joint_bias
            tensors["in_proj_bias"] = nn.Parameter(bias.clone(), bias.requires_grad)
        out = self.out_proj.plain()
        plain = self._shell.filled(tensors, modules={"out_proj": out})
        plain.training = self.training
        assert isinstance(plain, nn.MultiheadAttention)
        fit_attention_(plain, "attention")
        return plain

    def tensor_of(self, leaf: str) -> tuple[nn.Module, str]:
        """The module of ours that holds one of the original's own tensors, and its name there."""
        if leaf == "in_proj_bias" and self.packed:
            return self.get_submodule("in_proj"), "bias"
        if leaf.endswith("_proj_weight"):
            return self.get_submodule(leaf.removesuffix("_weight")), "weight"
        return self, "joint_bias" if leaf == "in_proj_bias" else leaf

    def projections(self) -> dict[str, VariationalLayer]:
        """The original's name of each weight's tensor -> the layer that holds it."""
        names = _PACKED if self.packed else _SEPARATE
        layers = {f"{name}_weight": getattr(self, name) for name in names}
        return {**layers, "out_proj.weight": self.out_proj}


def _as_linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear layer that holds these tensors; nothing is drawn for it."""
    outputs, inputs = weight.shape
    linear = nn.Linear(inputs, outputs, bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.detach(), weight.requires_grad)
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach(), bias.requires_grad)
    return linear


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask that is added to scores: True becomes minus infinity."""
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, -math.inf)
