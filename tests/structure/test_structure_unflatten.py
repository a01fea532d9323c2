"""The shape of an ``nn.Unflatten`` follows the channels it counts: in small networks, in twins and in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import epigram
from epigram import artifact
from epigram.codec import Profile
from epigram.convert import bayesianize
from epigram.errors import FormatError
from epigram.records import FileContents, RawTensor
from epigram.structure import (
    analyse,
    followed_numbers,
    mask_units,
    remove_units,
    slice_plan,
    verify_removal,
)

X = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
KEEP = {"0": np.arange(8) % 3 != 0, "3": np.arange(6) > 1}


class Decoder(nn.Sequential):
    """As in a DCGAN or a variational autoencoder."""

    def __init__(self, shape: tuple[int, ...] | list[int] = (8, 3, 3)) -> None:
        torch.manual_seed(0)
        channels = shape[0]
        places = 9 if -1 in shape else int(np.prod(shape[1:]))
        super().__init__(
            nn.Linear(5, channels * places), nn.ReLU(), nn.Unflatten(1, shape),  # type: ignore[arg-type]
            nn.ConvTranspose2d(channels, 6, 2, 2), nn.BatchNorm2d(6), nn.ReLU(),
            nn.ConvTranspose2d(6, 2, 3),
        )  # fmt: skip


def shape_of(network: nn.Module) -> tuple[int, ...]:
    shape = network.get_submodule("2").unflattened_size
    assert isinstance(shape, tuple | list)
    return tuple(shape)


@pytest.mark.parametrize(
    "shape", [(8, 3, 3), [8, 3, 3], torch.Size((8, 3, 3)), (8, -1, 3), (8, 8, 8)], ids=repr
)
def test_units_of_a_decoder_go_exactly(shape: tuple[int, ...]) -> None:
    network = Decoder(shape).double().eval()
    structure = analyse(network, X.double())
    assert {group.name: group.units for group in structure.groups} == {"0": 8, "3": 6}
    assert [a.path for a in structure.attributes] == ["2.unflattened_size[0]"]
    small = remove_units(network, slice_plan(structure, KEEP))
    assert shape_of(small) == (5, *shape[1:])
    assert type(small.get_submodule("2").unflattened_size) is type(shape)
    assert shape_of(network) == tuple(shape)
    verify_removal(small, mask_units(network, structure, KEEP), X.double())


def test_a_twin_of_a_decoder_shrinks_several_times() -> None:
    twin = bayesianize(Decoder().double().eval(), X.double())
    for keep in (KEEP, {"0": np.arange(5) != 2}):
        expected = mask_units(twin.plain(), twin.structure, keep)(X.double())
        twin.shrink_(keep)
        torch.testing.assert_close(twin(X.double()), expected)
        torch.testing.assert_close(twin.plain()(X.double()), expected)
    assert shape_of(twin.network) == shape_of(twin.plain()) == (4, 3, 3)
    twin.train()(X.double()).sum().backward()


@pytest.mark.parametrize("profile", ["bare", "named"])
def test_a_file_is_loaded_into_the_original_class(profile: Profile, tmp_path: Path) -> None:
    twin = bayesianize(Decoder().eval(), X)
    twin.shrink_(KEEP)
    small, into = twin.plain(), Decoder()
    dense = artifact.dense_shapes(into)
    values = {n: t for n, t in small.state_dict().items() if n in dense}
    contents = FileContents(
        tuple(RawTensor(n, dense[n], t.numpy()) for n, t in values.items()),
        numbers=followed_numbers(small),
    )
    epigram.save(contents, tmp_path / "decoder.epg", profile=profile)
    loaded = epigram.load(tmp_path / "decoder.epg", into=into).eval()
    assert (shape_of(loaded), shape_of(into)) == ((5, 3, 3), (8, 3, 3))
    assert torch.equal(loaded(X), small(X))


def test_a_file_that_makes_the_shape_larger_is_refused() -> None:
    held = (RawTensor("0.bias", (72,), np.zeros(72, np.float32)),)
    larger = FileContents(held, numbers={"2.unflattened_size[0]": 9})
    with pytest.raises(FormatError, match="got 9, expected at most the original's 8"):
        artifact.restored(larger, Decoder())


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.split = nn.Linear(5, 12), nn.Unflatten(-1, (3, 4))
        self.join, self.o = nn.Flatten(-2), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.o(self.join(self.split(self.a(x)).softmax(-1)))
        return y


def test_heads_that_are_split_by_it_go_whole() -> None:
    network = Heads().double()
    structure = analyse(network, X.double())
    (group,) = structure.groups
    assert (group.units, [a.path for a in structure.attributes]) == (
        3,
        ["split.unflattened_size[0]"],
    )
    keep = {group.name: np.array([True, False, True])}
    small = remove_units(network, slice_plan(structure, keep))
    verify_removal(small, mask_units(network, structure, keep), X.double())


class Shared(nn.Module):
    """One shape cannot count the channels of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.split = nn.Linear(5, 24), nn.Linear(5, 24), nn.Unflatten(1, (8, 3))
        self.c, self.d = nn.Conv1d(8, 2, 3), nn.Conv1d(8, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.c(self.split(self.a(x)).relu()) + self.d(self.split(self.b(x)).relu())
        return y


def test_units_of_two_layers_behind_one_shape_stay() -> None:
    structure = analyse(Shared().double(), X.double())
    assert structure.groups == ()
    assert {(left.where, left.operation) for left in structure.left_whole} == {
        ("a", "unflatten"),
        ("b", "unflatten"),
    }
