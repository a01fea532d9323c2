"""Pretrained weights: found, checked, or asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from epigram import recipes
from epigram.data import places
from epigram.errors import DataError
from epigram.recipes.cifar import RESNET20, RESNET56, adapted
from epigram.recipes.pretrained import Pretrained, tensors_sha256
from epigram.recipes.residual import CifarResNet

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """``pretrained/`` of the only folder of data sets there is."""
    monkeypatch.setenv("EPIGRAM_DATA", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(places, "clone_data", list)
    (tmp_path / "pretrained").mkdir()
    return tmp_path / "pretrained"


def written(folder: Path, network: CifarResNet) -> Pretrained:
    state = {n: t for n, t in network.state_dict().items() if "num_batches" not in n}
    save_file(state, folder / RESNET20.file)
    return replace(RESNET20, sha256=tensors_sha256(network.state_dict()))


def test_the_adapted_network_starts_as_the_pretrained_one(folder: Path) -> None:
    network = CifarResNet(1).eval()
    model = adapted(1, written(folder, network)).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(IMAGES), network(IMAGES), rtol=1e-4, atol=1e-4)


def test_without_weights_it_says_where_to_get_them(folder: Path) -> None:
    with pytest.raises(DataError, match=r"resnet20-cifar10.*not found.*akamaster") as caught:
        recipes.get("resnet20/cifar10").build()
    assert str(folder / "resnet20-cifar10.safetensors") in str(caught.value)
    assert "resnet20-scratch" in str(caught.value)


def test_other_weights_are_refused(folder: Path) -> None:
    written(folder, CifarResNet(3))
    with pytest.raises(DataError, match="holds other weights"):
        recipes.get("resnet20/cifar10").build()
    (folder / RESNET20.file).write_bytes(b"not safetensors")
    with pytest.raises(DataError, match="cannot be read"):
        RESNET20.load()


def test_the_fingerprint_is_of_names_shapes_and_values() -> None:
    a, b = torch.arange(4.0), torch.zeros(2)
    expected = tensors_sha256({"a": a, "b": b})
    assert tensors_sha256({"b": b, "a": a, "bn.num_batches_tracked": torch.tensor(3)}) == expected
    others = [{"a": a, "c": b}, {"a": a.view(2, 2), "b": b}, {"a": a + 1, "b": b}, {"a": a}]
    assert expected not in [tensors_sha256(other) for other in others]


@pytest.mark.parametrize(("weights", "blocks"), [(RESNET20, 3), (RESNET56, 9)])
def test_the_weights_in_hand_load_as_they_are(weights: Pretrained, blocks: int) -> None:
    if not any(place.is_file() for place in weights.places()):
        pytest.skip(f"no {weights.file} here")
    model = CifarResNet(blocks)
    assert not any(model.load_state_dict(weights.load()))  # nothing missing, nothing left over
