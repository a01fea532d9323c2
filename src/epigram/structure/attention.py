"""Attention with fewer heads than ``nn.MultiheadAttention`` allows.

PyTorch's layer insists that its heads together are as wide as its input. When heads are removed the
module changes its class to :class:`NarrowAttention`, which holds the same tensors under the same
names, takes the same arguments, and does not insist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from epigram.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor


class NarrowAttention(nn.MultiheadAttention):
    """``nn.MultiheadAttention`` whose ``num_heads * head_dim`` may be less than ``embed_dim``.

    Not built by hand: a module that lost heads becomes one. A mask for every head
    (``[batch * heads, length, source]``) has to have as many heads as are left.
    """

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,  # noqa: ARG002 - a hint; the mask says it
    ) -> tuple[Tensor, Tensor | None]:
        """Attend; shapes and arguments as for ``nn.MultiheadAttention``.

        In ``eval()`` without gradients ``nn.TransformerEncoder`` makes a nested tensor of padded sequences:
        those attend to themselves and come back nested.
        """
        if query.is_nested:
            return self._nested(query, need_weights, average_attn_weights)
        single, same = query.dim() == 2, query is key is value
        if single:
            query, key, value = (
                t.unsqueeze(int(not self.batch_first)) for t in (query, key, value)
            )
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        if not self.batch_first:
            query, key, value = (t.transpose(0, 1) for t in (query, key, value))
        key, value = (query, query) if same else (key, value)
        queries, keys, values = self._projected(query, key, value)
        mask = _united_mask(attn_mask, key_padding_mask, self.num_heads, query)
        dropped = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = queries @ keys.transpose(-2, -1) * self.head_dim**-0.5
            weights = (scores if mask is None else scores + mask).softmax(-1)
            weights = F.dropout(weights, dropped) if dropped else weights
            heads = weights @ values
        else:
            heads = F.scaled_dot_product_attention(queries, keys, values, mask, dropped)
        out = self.out_proj(heads.transpose(1, 2).flatten(2))
        out = out if self.batch_first else out.transpose(0, 1)
        out = out.squeeze(int(not self.batch_first)) if single else out
        if weights is not None:
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights.squeeze(0) if single else weights
        return out, weights

    def _nested(
        self, sequences: Tensor, need_weights: bool, average_attn_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Self-attention of sequences of several lengths; weights are those of the padded ones."""
        lengths = [len(sequence) for sequence in sequences.unbind()]
        x = sequences.to_padded_tensor(0.0)
        ends = torch.tensor(lengths, device=x.device)[:, None]
        padding = torch.arange(x.shape[1], device=x.device) >= ends
        out, weights = self.forward(
            *(x, x, x, padding, need_weights), average_attn_weights=average_attn_weights
        )
        parts = [row[:length] for row, length in zip(out, lengths, strict=True)]
        return torch.nested.as_nested_tensor(parts), weights

    def _projected(self, *inputs: Tensor) -> list[Tensor]:
        """Queries, keys and values, ``[batch, heads, length, head_dim]``."""
        packed: Tensor | None = self.in_proj_weight
        query, key, value = inputs
        if packed is not None and query is key is value:
            return self._as_heads(F.linear(query, packed, self.in_proj_bias).chunk(3, -1))
        biases: tuple[Tensor | None, ...] = (None,) * 3
        if self.in_proj_bias is not None:
            biases = self.in_proj_bias.chunk(3)
        if packed is not None:
            weights = packed.chunk(3)
        else:
            weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        return self._as_heads(map(F.linear, inputs, weights, biases))

    def _as_heads(self, projected: Iterable[Tensor]) -> list[Tensor]:
        shape = (self.num_heads, self.head_dim)
        return [x.reshape(*x.shape[:2], *shape).transpose(1, 2) for x in projected]


def fit_attention_(module: nn.MultiheadAttention, name: str) -> None:
    """Make ``num_heads`` and ``embed_dim`` agree with the tensors; if those are less, the class changes.

    Raises:
        ConfigError: the tensors hold no whole number of heads, the keys have learned biases of
            their own, or the class has its own ``forward``.
    """
    packed: Tensor | None = module.in_proj_weight
    rows = module.q_proj_weight.shape[0] if packed is None else packed.shape[0] // 3
    heads, rest = divmod(rows, module.head_dim)
    widths = [
        weight.shape[1]
        for weight in (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight, packed)
        if weight is not None
    ]
    query, key, value = widths if len(widths) == 3 else widths * 3
    same = (query, key, value) == (module.embed_dim, module.kdim, module.vdim)
    if heads == module.num_heads and not rest and same:
        return
    if rest or module.out_proj.weight.shape[1] != rows:
        raise ConfigError(f"{name}: {rows} rows are no whole number of heads of {module.head_dim}")
    if module.bias_k is not None or module.add_zero_attn:
        raise ConfigError(f"{name}: attention with bias_k, bias_v or add_zero_attn keeps its heads")
    if type(module) not in (nn.MultiheadAttention, NarrowAttention):
        raise ConfigError(f"{name}: {type(module).__name__} may have a forward of its own")
    module.__class__ = NarrowAttention
    module.num_heads = heads
    module.embed_dim, module.kdim, module.vdim = query, key, value
    module._qkv_same_embed_dim = False  # noqa: SLF001 - keeps PyTorch's fused encoder kernel away


def _united_mask(
    attn_mask: Tensor | None, padding: Tensor | None, heads: int, query: Tensor
) -> Tensor | None:
    """One additive mask, ``[batch or 1, heads or 1, length or 1, source]``; None where both are."""
    masks = []
    if attn_mask is not None:
        mask = (
            attn_mask
            if attn_mask.dim() == 2
            else attn_mask.reshape(-1, heads, *attn_mask.shape[1:])
        )
        masks.append(_additive(mask, query))
    if padding is not None:
        masks.append(_additive(padding[:, None, None, :], query))
    return None if not masks else sum(masks[1:], masks[0])


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, float("-inf"))
