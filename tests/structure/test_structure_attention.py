"""Attention: heads leave as a whole, with everything that belongs to them, and exactly."""

from __future__ import annotations

import copy
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from epigram.artifact import dense_shapes, load, save
from epigram.records import FileContents, RawTensor, Structure
from epigram.structure import analyse, mask_units, rebase, remove_units, slice_plan, verify_removal
from epigram.structure.attention import NarrowAttention

TOKENS = torch.randn(2, 7, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Fused(nn.Module):
    """As in timm: one layer for queries, keys and values; numbers are attributes."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.scale, self.how = 4, 6, 6**-0.5, how
        self.qkv, self.proj = nn.Linear(24, 72), nn.Linear(24, 24)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.num_heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if self.how == "sdpa":
            x = F.scaled_dot_product_attention(q, k, v)
        elif self.how == "einsum":
            weights = torch.einsum("bhnd,bhmd->bhnm", q * self.scale, k).softmax(-1)
            x = torch.einsum("bhnm,bhmd->bhnd", weights, v)
        else:
            x = ((q * self.scale) @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.proj(x.transpose(1, 2).reshape(b, n, -1))


class Separate(nn.Module):
    """Three layers, a mask, a bias per head, heads folded into the batch for ``bmm``."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(24, 24), nn.Linear(24, 24), nn.Linear(24, 24)
        self.out, self.size = nn.Linear(24, 24), 6
        self.bias = nn.Parameter(torch.randn(4, 7, 7))

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = (
            layer(x).view(b, n, -1, self.size).transpose(1, 2).reshape(-1, n, self.size)
            for layer in (self.q, self.k, self.v)
        )
        scores = torch.bmm(q, k.transpose(1, 2)).view(b, -1, n, n) + self.bias
        scores = scores.masked_fill(torch.ones(n, n, dtype=torch.bool).triu(1), -torch.inf)
        x = torch.bmm(F.dropout(scores.softmax(-1), 0.0).view(-1, n, n), v).view(
            b, -1, n, self.size
        )
        return self.out(x.transpose(1, 2).flatten(2))


class Rotary(nn.Module):
    """Grouped queries: six query heads on three key heads, rotated by constants."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(24, 24), nn.Linear(24, 12), nn.Linear(24, 12)
        self.o, self.norm = nn.Linear(24, 24, bias=False), nn.RMSNorm(4)
        self.register_buffer("angle", torch.randn(7, 4), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = (m(x).view(b, n, -1, 4).transpose(1, 2) for m in (self.q, self.k, self.v))
        q, k = self._rotated(self.norm(q)), self._rotated(self.norm(k))
        heads = k.shape[1]
        k, v = (t[:, :, None].expand(b, heads, 2, n, 4).reshape(b, -1, n, 4) for t in (k, v))
        x = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o(x.transpose(1, 2).reshape(b, n, -1))

    def _rotated(self, x: Tensor) -> Tensor:
        half = torch.cat([-x[..., 2:], x[..., :2]], -1)
        return x * self.angle.cos() + half * self.angle.sin()


class Crossing(nn.Module):
    """Queries from one sequence, keys and values from another, in PyTorch's packed layer.

    With ``weights`` their mean over heads is computed as well, and thrown away.
    """

    def __init__(self, *, weights: bool = False) -> None:
        super().__init__()
        self.attn, self.weights = nn.MultiheadAttention(24, 4, batch_first=True), weights

    def forward(self, x: Tensor) -> Tensor:
        memory = x[:, :4].tanh()
        return x + self.attn(x, memory, memory, need_weights=self.weights)[0]


def encoder(*, batch_first: bool) -> nn.Module:
    return nn.TransformerEncoderLayer(24, 4, 40, 0.0, batch_first=batch_first, norm_first=True)


CASES: dict[str, tuple[Callable[[], nn.Module], dict[str, int]]] = {
    "fused, sdpa": (lambda: Fused("sdpa"), {"qkv": 4}),
    "fused, matmul": (lambda: Fused("matmul"), {"qkv": 4}),
    "fused, einsum": (lambda: Fused("einsum"), {"qkv": 4}),
    "separate, bmm": (Separate, {"q": 4}),
    "crossing": (Crossing, {"attn": 4}),
    "crossing, weights thrown away": (lambda: Crossing(weights=True), {"attn": 4}),
    "rotary, grouped": (Rotary, {"q": 3}),
    "nn.TransformerEncoderLayer": (
        lambda: encoder(batch_first=True),
        {"self_attn": 4, "linear1": 40},
    ),
    "nn.TransformerEncoderLayer, time first": (
        lambda: encoder(batch_first=False),
        {"self_attn": 4, "linear1": 40},
    ),
}


def every_second(structure: Structure) -> dict[str, np.ndarray]:
    return {g.name: np.arange(g.units) % 2 == 0 for g in structure.groups}


@pytest.mark.parametrize("case", CASES)
def test_heads_leave_exactly(case: str) -> None:
    build, expected = CASES[case]
    torch.manual_seed(0)
    model = build().double()
    structure = analyse(model, TOKENS)
    assert {g.name: g.units for g in structure.groups} == expected
    keep = every_second(structure)
    small, masked = (
        remove_units(model, slice_plan(structure, keep)),
        mask_units(model, structure, keep),
    )
    fresh = torch.randn_like(TOKENS)
    assert verify_removal(small, masked, fresh, tolerance=1e-10) <= 1e-10
    torch.testing.assert_close(small.train()(fresh), masked.train()(fresh), rtol=0, atol=1e-10)
    assert not torch.allclose(small.eval()(fresh), model.eval()(fresh))
    small.train()(fresh).square().mean().backward()
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0 for p in small.parameters() if p.dim() > 1
    )
    restored = pickle_round_trip(small).eval()
    torch.testing.assert_close(restored(fresh), small.eval()(fresh), rtol=0, atol=1e-12)
    again = analyse(small, TOKENS)
    assert {g.name: g.units for g in again.groups} == {
        g.name: g.units for g in rebase(structure, keep).groups
    }


def pickle_round_trip(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert isinstance(loaded, nn.Module)
    return loaded


class Width(nn.Module):
    """Four heads as wide as what is left; the scale of the scores is told, follows, or is a number."""

    def __init__(self, scale: str) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(24, 24), nn.Linear(24, 24), nn.Linear(24, 24)
        self.out, self.scale, self.how = nn.Linear(24, 24), 0.4, scale

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = (m(x).view(b, n, 4, -1).transpose(1, 2) for m in (self.q, self.k, self.v))
        if self.how == "by hand":
            x = ((q @ k.transpose(-2, -1)) * q.size(-1) ** -0.5).softmax(-1) @ v
        else:
            told = self.scale if self.how == "told" else None
            x = F.scaled_dot_product_attention(q, k, v, scale=told)
        return self.out(x.transpose(1, 2).flatten(2))


@pytest.mark.parametrize(
    ("scale", "operation", "says"),
    [
        ("default", "scaled_dot_product_attention", "scale=self.scale"),
        ("by hand", "matmul", r"q.size\(-1\) \*\* -0.5"),
    ],
)
def test_a_scale_that_follows_the_width_is_the_reason_given(
    scale: str, operation: str, says: str
) -> None:
    structure = analyse(Width(scale).double(), TOKENS, attention="places")
    assert [g.name for g in structure.groups] == ["v"]
    (entry,) = structure.left_whole
    assert (entry.where, entry.operation) == ("q", operation)
    assert re.search(says, entry.reason) and "differs by" in entry.reason
    assert "flatten" not in entry.reason


def test_with_a_scale_of_its_own_the_width_can_go() -> None:
    model = Width("told").double().eval()
    structure = analyse(model, TOKENS, attention="places")
    assert [g.name for g in structure.groups] == ["q", "v"] and not structure.left_whole
    keep = {g.name: np.arange(g.units) % 3 != 1 for g in structure.groups}
    small, masked = (
        remove_units(model, slice_plan(structure, keep)),
        mask_units(model, structure, keep),
    )
    assert small.q.out_features == 16
    verify_removal(small, masked, TOKENS.flip(0), tolerance=1e-10)


def test_a_kv_head_goes_with_its_query_heads() -> None:
    (group,) = analyse(Rotary().double(), TOKENS).groups
    rows = {m.tensor: m.index for m in group.members if m.role == "produces"}
    np.testing.assert_array_equal(rows["q.weight"], np.arange(24).reshape(3, 8))
    np.testing.assert_array_equal(rows["k.weight"], np.arange(12).reshape(3, 4))


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("mask", ["none", "bool", "float per head", "padding"])
def test_narrow_attention_is_pytorchs_with_silent_heads(
    weights: bool, batch_first: bool, mask: str
) -> None:
    torch.manual_seed(0)
    wide = nn.MultiheadAttention(12, 3, kdim=10, vdim=8, batch_first=batch_first).double()
    narrow = copy.deepcopy(wide)
    narrow.__class__ = NarrowAttention
    query, key, value = (torch.randn(2, n, d).double() for n, d in ((4, 12), (5, 10), (5, 8)))
    if not batch_first:
        query, key, value = (t.transpose(0, 1) for t in (query, key, value))
    more: dict[str, Any] = {
        "none": {},
        "bool": {"attn_mask": torch.ones(4, 5, dtype=torch.bool).triu(1)},
        "float per head": {"attn_mask": torch.randn(6, 4, 5).double()},
        "padding": {"key_padding_mask": torch.arange(5)[None] > torch.tensor([[3], [2]])},
    }[mask]
    ours = narrow(query, key, value, need_weights=weights, average_attn_weights=False, **more)
    theirs = wide(query, key, value, need_weights=weights, average_attn_weights=False, **more)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_unbatched_sequences_go_through_narrow_attention() -> None:
    wide = nn.MultiheadAttention(12, 3).double()
    narrow = copy.deepcopy(wide)
    narrow.__class__ = NarrowAttention
    x = torch.randn(4, 12).double()
    torch.testing.assert_close(narrow(x, x, x), wide(x, x, x), rtol=0, atol=1e-12)


class Padded(nn.Module):
    """An encoder of padded sequences, with an average that sees what stands at their ends."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(24, 4, 40, 0.0, batch_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(24, 5)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        return self.head(self.encoder(x, src_key_padding_mask=padding).mean(1))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")  # the original takes them
@pytest.mark.parametrize("which", ["all", "first", "second"])
def test_padded_sequences_without_gradients_are_nested(tmp_path: Path, which: str) -> None:
    """What torch's encoder makes of them there has no shape; the ends are zero afterwards."""
    torch.manual_seed(0)
    model = Padded().double().eval()
    structure = analyse(model, TOKENS)
    narrow = {"all": "self_attn", "first": "layers.0.self_attn", "second": "layers.1.self_attn"}
    keep = {n: k for n, k in every_second(structure).items() if n.endswith(narrow[which])}
    assert len(keep) == (2 if which == "all" else 1)
    masked, small = (
        mask_units(model, structure, keep),
        remove_units(model, slice_plan(structure, keep)),
    )
    tensors = (
        RawTensor(name, dense_shapes(model)[name], value.numpy())
        for name, value in small.state_dict().items()
    )
    save(FileContents(tuple(tensors)), tmp_path / "small.epg")
    padding = torch.arange(7)[None] >= torch.tensor([[7], [3]])
    with torch.no_grad():
        expected = masked(TOKENS, padding)
        for smaller in (small, load(tmp_path / "small.epg", into=Padded().double().eval())):
            torch.testing.assert_close(smaller(TOKENS, padding), expected, rtol=0, atol=1e-12)
    assert not torch.allclose(small(TOKENS, padding), expected)  # with gradients ends are not zero
