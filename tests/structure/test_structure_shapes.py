"""The shapes people use: each shrinks exactly, in ``eval()`` and in ``train()``, on fresh inputs."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from epigram.errors import UnsupportedModelError
from epigram.structure import analyse, mask_units, remove_units, slice_plan, verify_removal

IMAGES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1)).double()


def conv(inputs: int, outputs: int, size: int = 1, groups: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, padding=size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = conv(3, 4), conv(4, 4, 3), conv(8, 4, 3)
        self.norm, self.head = nn.BatchNorm2d(12), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([x, self.one(x)], 1)
        x = torch.cat([x, self.two(x)], 1)
        return self.head(F.relu(self.norm(x)).mean((2, 3)))


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 4), nn.Sequential(conv(3, 6), conv(6, 5, 3)), conv(3, 3)
        self.head = nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.a(x), self.b(x), self.c(F.max_pool2d(x, 3, 1, 1))], 1)
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide, self.deep = conv(3, 8), conv(8, 8, 3, groups=8)
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.narrow, self.head = conv(8, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.deep(self.wide(x))
        gate = self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1))))
        return self.head(self.narrow(x * F.hardsigmoid(gate)).amax((2, 3)))


class Shuffle(nn.Module):
    """ShuffleNet: half of the channels pass, then both halves are interleaved."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branch, self.out = (
            conv(3, 8),
            nn.Sequential(conv(4, 6), conv(6, 4)),
            conv(8, 5),
        )
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        one, two = self.stem(x).chunk(2, 1)
        x = torch.cat([one, self.branch(two)], 1)
        b, c, h, w = x.shape
        x = x.view(b, 2, c // 2, h, w).transpose(1, 2).flatten(1, 2)
        return self.head(self.out(x).mean((2, 3)))


class Halves(nn.Module):
    """CSPNet: both halves of the channels go their own ways."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = conv(3, 10), conv(5, 6), conv(5, 7)
        self.out = nn.Conv2d(13, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        one, two = self.stem(x).chunk(2, 1)
        return self.out(torch.cat([self.one(one), self.two(two)], 1))


class ChannelShuffle(nn.Module):
    """ShuffleNet as published: grouped 1×1 convolutions and torch's own shuffle between them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.shuffle = nn.Conv2d(3, 18, 3), nn.ChannelShuffle(3)
        self.grouped, self.out = nn.Conv2d(18, 9, 1, groups=3), nn.Conv2d(9, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.shuffle(F.relu(self.stem(x)))
        return self.out(F.channel_shuffle(F.relu(self.grouped(x)), 3))


class PixelShuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.out = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(F.pixel_shuffle(self.up(x), 2)))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep = conv(3, 4, 3), conv(4, 6, 3)
        self.up, self.join = nn.ConvTranspose2d(6, 5, 2, 2), conv(9, 4, 3)
        self.out = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down(x)
        x = self.up(self.deep(F.max_pool2d(skip, 2)))
        return self.out(self.join(torch.cat([skip, x], 1)))


class NonLocal(nn.Module):
    """Attention with one head: nobody but the product reads the channels of queries and keys."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.q, self.k = conv(3, 6), nn.Conv2d(6, 4, 1), nn.Conv2d(6, 4, 1)
        self.v, self.head = nn.Conv2d(6, 5, 1), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        q, k, v = (layer(x).flatten(2) for layer in (self.q, self.k, self.v))
        weights = (q.transpose(1, 2) @ k).softmax(-1)
        return self.head((v @ weights.transpose(1, 2)).mean(2))


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.words, self.rnn = nn.Linear(64, 6), kind(6, 5, batch_first=True)
        self.mid, self.out = nn.Linear(5, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.mid(self.rnn(self.words(x.flatten(2)))[0][:, -1])))


CASES: dict[str, tuple[Callable[[], nn.Module], dict[str, int]]] = {
    "dense": (Dense, {"stem.0": 4, "one.0": 4, "two.0": 4}),
    "inception": (Inception, {"a.0": 4, "b.0.0": 6, "b.1.0": 5, "c.0": 3}),
    "squeeze-excite": (SqueezeExcite, {"wide.0": 8, "squeeze": 4, "narrow.0": 6}),
    "halves": (Halves, {"stem.0": 5, "one.0": 6, "two.0": 7}),
    "channel shuffle": (ChannelShuffle, {"stem": 2, "grouped": 3}),
    "pixel shuffle": (PixelShuffle, {"up": 4}),
    "u-net": (UNet, {"down.0": 4, "deep.0": 6, "up": 5, "join.0": 4}),
    "one head": (NonLocal, {"stem.0": 6, "q": 4, "v": 5}),
    "lstm": (lambda: Recurrent(nn.LSTM), {"mid": 8}),
    "gru": (lambda: Recurrent(nn.GRU), {"mid": 8}),
}


@pytest.mark.parametrize("case", CASES)
def test_each_shape_shrinks_exactly(case: str) -> None:
    build, expected = CASES[case]
    torch.manual_seed(0)
    model = build().double()
    structure = analyse(model, IMAGES)
    assert {g.name: g.units for g in structure.groups} == expected
    keep = {g.name: np.arange(g.units) % 3 != 1 for g in structure.groups}
    small, masked = (
        remove_units(model, slice_plan(structure, keep)),
        mask_units(model, structure, keep),
    )
    fresh = torch.randn_like(IMAGES)
    assert verify_removal(small, masked, fresh, tolerance=1e-10) <= 1e-10
    torch.testing.assert_close(small.train()(fresh), masked.train()(fresh), rtol=0, atol=1e-10)
    assert not torch.allclose(small.eval()(fresh), model.eval()(fresh))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_what_a_recurrent_layer_reads_and_puts_out_is_left_and_named(kind: type) -> None:
    entries = analyse(Recurrent(kind).double(), IMAGES).left_whole
    assert [(entry.where, entry.operation) for entry in entries] == [
        ("words", kind.__name__.lower())
    ]


def test_a_sequence_of_a_thousand_places_takes_seconds() -> None:
    """Of processor time; labels repeat over places without taking memory, and trials are short."""
    model = nn.TransformerEncoderLayer(32, 4, 48, 0.0, batch_first=True, norm_first=True)
    x, begin = torch.randn(2, 1024, 32), time.process_time()
    structure = analyse(model, x)
    assert time.process_time() - begin < 30
    assert {g.name: g.units for g in structure.groups} == {"self_attn": 4, "linear1": 48}


def test_a_shuffled_stem_keeps_halves_of_one_size() -> None:
    """What only shrinks if both halves shrink alike is left or exact, never wrong."""
    model = Shuffle().double()
    structure = analyse(model, IMAGES)
    names = {g.name for g in structure.groups}
    assert {"branch.0.0", "out.0"} <= names
    keep = {g.name: np.arange(g.units) > 0 for g in structure.groups}
    small = remove_units(model, slice_plan(structure, keep))
    assert verify_removal(small, mask_units(model, structure, keep), IMAGES) < 1e-10


def test_channels_of_queries_and_keys_are_consumed_by_their_product() -> None:
    structure = analyse(NonLocal().double(), IMAGES)
    members = {(m.tensor, m.role) for m in structure.group("q").members}
    rows = {(f"{n}.{t}", "produces") for n in "qk" for t in ("weight", "bias")}
    one_side = {(f"{n}.{t}", "consumed") for n in "k" for t in ("weight", "bias")}
    other_side = {(f"{n}.{t}", "consumed") for n in "q" for t in ("weight", "bias")}
    assert members in (rows | one_side, rows | other_side)


class PerHead(nn.Module):
    """Attention whose heads are counted by a literal, but whose width is free; ``scale`` is a number."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(8, 12), nn.Linear(8, 12), nn.Linear(8, 12)
        self.out, self.scale = nn.Linear(12, 3), 0.5

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = (m(x).view(b, n, 3, -1).transpose(1, 2) for m in (self.q, self.k, self.v))
        weights = (q @ k.transpose(-2, -1) * self.scale).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).flatten(2))


def test_on_request_the_same_place_of_all_heads_is_a_unit() -> None:
    model, x = PerHead().double(), torch.randn(2, 5, 8).double()
    assert analyse(model, x).groups == ()
    structure = analyse(model, x, attention="places")
    assert {g.name: g.units for g in structure.groups} == {"q": 4, "v": 4}
    keep = {"q": np.arange(4) > 1, "v": np.arange(4) != 2}
    small = remove_units(model, slice_plan(structure, keep))
    assert (small.q.out_features, small.k.out_features, small.v.out_features) == (6, 6, 9)
    verify_removal(small, mask_units(model, structure, keep), torch.randn_like(x), tolerance=1e-10)


class Choosing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) if x.sum() > 0 else x


def test_what_cannot_be_analysed_can_be_left_as_it_is() -> None:
    structure = analyse(Choosing(), torch.randn(2, 6), on_failure="leave")
    assert structure.groups == () and structure.shapes["a.weight"] == (6, 6)
    (entry,) = structure.left_whole
    assert (entry.where, entry.operation) == ("forward", "export")
    assert "control flow" in entry.reason


def test_models_without_values_in_half_precision_or_frozen() -> None:
    with torch.device("meta"):
        empty = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(UnsupportedModelError, match="to_empty"):
        analyse(empty, torch.randn(2, 6, device="meta"))
    half = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)).bfloat16()
    half.requires_grad_(False)
    example = torch.randn(2, 6, dtype=torch.bfloat16)
    structure = analyse(half, example)
    keep = {"0": np.arange(4) > 1}
    small = remove_units(half, slice_plan(structure, keep))
    assert small[0].weight.dtype == torch.bfloat16 and not small[0].weight.requires_grad
    verify_removal(small, mask_units(half, structure, keep), example)
