"""On request the residual stream of a transformer gets narrower, exactly: its norms count on."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from epigram.convert import bayesianize
from epigram.structure import (
    analyse,
    mask_units,
    rebase,
    remove_units,
    resize_to_shapes_,
    slice_plan,
    verify_removal,
)
from epigram.structure.normalise import NarrowLayerNorm, NarrowRMSNorm

WORDS = torch.randint(0, 11, (3, 6), generator=torch.Generator().manual_seed(1))


class Block(nn.Module):
    def __init__(self, norm: Callable[[int], nn.Module], *, first: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 3, batch_first=True)
        self.up, self.down = nn.Linear(12, 20), nn.Linear(20, 12)
        self.one, self.two, self.first = norm(12), norm(12), first

    def forward(self, x: Tensor) -> Tensor:
        if self.first:
            y = self.one(x)
            x = x + self.attention(y, y, y, need_weights=False)[0]
            return x + self.down(self.up(self.two(x)).tanh())
        x = self.one(x + self.attention(x, x, x, need_weights=False)[0])
        return self.two(x + self.down(self.up(x).tanh()))


class Encoder(nn.Module):
    """Words and places are added, two blocks, a norm, a head that is tied to the words or not."""

    def __init__(self, norm: Callable[[int], nn.Module], *, first: bool, tied: bool) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(11, 12), nn.Parameter(torch.randn(6, 12))
        self.blocks = nn.Sequential(Block(norm, first=first), Block(norm, first=first))
        self.norm, self.head = norm(12), nn.Linear(12, 11, bias=False)
        if tied:
            self.head.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.words(x) + self.places)))


def rms(units: int) -> nn.Module:
    return nn.RMSNorm(units)


CASES = {
    "layer norm first": (nn.LayerNorm, True, False, NarrowLayerNorm),
    "layer norm last, tied": (nn.LayerNorm, False, True, NarrowLayerNorm),
    "rms norm first, tied": (rms, True, True, NarrowRMSNorm),
}


@pytest.mark.parametrize("case", CASES)
def test_the_stream_leaves_exactly(case: str) -> None:
    norm, first, tied, narrow = CASES[case]
    torch.manual_seed(0)
    model = Encoder(norm, first=first, tied=tied).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0.2, 0.5)
    assert {g.name for g in analyse(model, WORDS).groups} == {
        f"blocks.{b}.{m}" for b in "01" for m in ("attention", "up")
    }
    structure = analyse(model, WORDS, stream="narrow")
    stream = [g for g in structure.groups if g.units == 12]
    assert stream and not structure.left_whole
    keep = {g.name: np.arange(g.units) % 3 != 1 for g in structure.groups}
    small, masked = (
        remove_units(model, slice_plan(structure, keep)),
        mask_units(model, structure, keep),
    )
    assert verify_removal(small, masked, WORDS.flip(0), tolerance=1e-10) <= 1e-10
    assert not torch.allclose(small(WORDS), model(WORDS))
    assert type(small.norm) is narrow and small.norm.normalized_shape == (8,)
    assert (small.norm.counted, small.words.embedding_dim) == (12, 8)
    assert (small.head.weight is small.words.weight) == tied
    small.train()(WORDS).square().mean().backward()
    assert all(p.grad is not None for p in small.parameters())
    file = io.BytesIO()
    torch.save(small.eval(), file)
    file.seek(0)
    torch.testing.assert_close(torch.load(file, weights_only=False)(WORDS), small(WORDS))
    fresh = Encoder(norm, first=first, tied=tied).double().eval()
    shapes = {n: tuple(t.shape) for n, t in small.state_dict().items()}
    resize_to_shapes_(fresh, shapes, slice_plan(structure, keep).attributes)
    fresh.load_state_dict(small.state_dict())
    torch.testing.assert_close(fresh(WORDS), small(WORDS))
    rest = rebase(
        structure, keep
    )  # its norms are no torch layer any more: the stream goes on by its record
    less = {g.name: np.arange(g.units) > 0 for g in rest.groups}
    smaller = remove_units(small, slice_plan(rest, less))
    verify_removal(smaller, mask_units(small, rest, less), WORDS, tolerance=1e-10)
    assert (smaller.norm.counted, smaller.words.embedding_dim) == (12, 7)


def test_its_twin_has_no_scale_on_the_stream() -> None:
    """A scale acts on what a layer reads; the statistics would go on hearing the unit."""
    model = Encoder(nn.LayerNorm, first=True, tied=False).eval()
    structure = analyse(model, WORDS, stream="narrow")
    twin = bayesianize(model, WORDS, structure=structure)
    (name,) = [g.name for g in structure.groups if g.units == 12]
    assert name not in twin.names and "statistics" in twin.unscaled[name]


class OwnNorm(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


def test_a_norm_of_another_class_keeps_its_stream() -> None:
    model = Encoder(OwnNorm, first=True, tied=False).eval()
    structure = analyse(model, WORDS, stream="narrow")
    assert not [g for g in structure.groups if g.units == 12]
    assert any(entry.operation == "layer_norm" for entry in structure.left_whole)


class Pictures(nn.Module):
    """A class token before the patches, places for all; queries and keys are normalised head by head."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.token = nn.Conv2d(3, 12, 4, 4), nn.Parameter(torch.randn(1, 1, 12))
        self.places, self.norm = nn.Parameter(torch.randn(1, 5, 12)), nn.LayerNorm(12)
        self.q, self.k, self.v = nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 12)
        self.out, self.of_heads, self.head = nn.Linear(12, 12), nn.RMSNorm(4), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).mT
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        y = self.norm(x)
        q, k, v = (m(y).unflatten(2, (-1, 4)).transpose(1, 2) for m in (self.q, self.k, self.v))
        y = nn.functional.scaled_dot_product_attention(self.of_heads(q), self.of_heads(k), v)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return self.head(self.norm(x)[:, 0])


def vision_transformer() -> nn.Module:
    models = pytest.importorskip("torchvision").models
    return models.VisionTransformer(8, 4, 2, 3, hidden_dim=12, mlp_dim=20, num_classes=5)


@pytest.mark.parametrize(
    ("build", "stream"), [(Pictures, "patches"), (vision_transformer, "conv_proj")]
)
def test_a_class_token_goes_with_the_stream(build: Callable[[], nn.Module], stream: str) -> None:
    torch.manual_seed(0)
    model = build().double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0.2, 0.5)
    images = torch.randn(2, 3, 8, 8).double()
    units = {g.name: g.units for g in analyse(model, images).groups}
    structure = analyse(model, images, stream="narrow")
    assert {g.name: g.units for g in structure.groups} == units | {stream: 12}
    keep = {g.name: np.arange(g.units) % 3 != 1 for g in structure.groups}
    small = remove_units(model, slice_plan(structure, keep))
    assert model.get_submodule(stream).out_channels == 12
    assert small.get_submodule(stream).out_channels == 8
    verify_removal(small, mask_units(model, structure, keep), images, tolerance=1e-10)
