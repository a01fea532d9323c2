"""A file becomes a plain smaller module of the user's own class, or says why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from epigram import artifact, codec
from epigram.codec import Profile
from epigram.errors import ConfigError, FormatError, StorageError
from epigram.records import CodedTensor, FileContents, RawTensor

PROFILES: list[Profile] = ["bare", "named"]


class Net(nn.Module):
    """Convolution, normalisation, a flatten, two linear layers."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3)
        self.norm = nn.BatchNorm2d(6)
        self.fc1 = nn.Linear(6 * 36, 12)
        self.fc2 = nn.Linear(12, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x)))
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


SMALL = {
    "conv.weight": (2, 1, 3, 3),
    "conv.bias": (2,),
    "norm.weight": (2,),
    "norm.bias": (2,),
    "norm.running_mean": (2,),
    "norm.running_var": (2,),
    "fc1.weight": (4, 72),
    "fc1.bias": (4,),
    "fc2.weight": (5, 4),
    "fc2.bias": (5,),
}


def contents(*, without: tuple[str, ...] = (), raw: tuple[str, ...] = ()) -> FileContents:
    rng, dense, tensors = np.random.default_rng(0), artifact.dense_shapes(Net()), []
    for name, shape in SMALL.items():
        symbols = rng.integers(-9, 10, shape).astype(np.int32)
        if name == "norm.running_var":
            symbols = np.abs(symbols) + 1
        if name in without:
            continue
        coded = CodedTensor(name, dense[name], symbols, 0.0625)
        tensors.append(RawTensor(name, dense[name], coded.values()) if name in raw else coded)
    return FileContents(tuple(tensors))


def plain(what: FileContents, x: Tensor) -> Tensor:
    """The small network written out with functions, from the records' values."""
    v = {t.name: torch.from_numpy(np.array(t.values())) for t in what.tensors}
    x = F.conv2d(x, v["conv.weight"], v["conv.bias"])
    mean = v.get("norm.running_mean", torch.zeros(2))
    var = v.get("norm.running_var", torch.ones(2))
    x = (x - mean[:, None, None]) / torch.sqrt(var[:, None, None] + 1e-5)
    x = F.relu(x * v["norm.weight"][:, None, None] + v["norm.bias"][:, None, None])
    x = F.relu(F.linear(x.flatten(1), v["fc1.weight"], v["fc1.bias"]))
    return F.linear(x, v["fc2.weight"], v["fc2.bias"])


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("raw", [(), ("norm.running_mean", "norm.running_var")])
def test_a_file_becomes_a_smaller_module_of_the_same_class(
    tmp_path: Path, profile: Profile, raw: tuple[str, ...]
) -> None:
    what, path, dense = contents(raw=raw), tmp_path / "deep" / "small.epg", Net()
    before = {name: tensor.clone() for name, tensor in dense.state_dict().items()}
    assert artifact.save(what, path, profile=profile) == path.stat().st_size
    small = artifact.load(path, into=dense)
    assert type(small) is Net and small.fc1.in_features == 72 and small.conv.out_channels == 2
    x = torch.randn(7, 1, 8, 8)
    # fp32 sums of 72 terms in another order
    torch.testing.assert_close(small.eval()(x), plain(what, x), rtol=1e-4, atol=1e-4)
    for name, tensor in dense.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert all(parameter.requires_grad for parameter in small.parameters())
    small.train()(x).sum().backward()


def test_integer_buffers_that_the_file_leaves_out_keep_their_value(tmp_path: Path) -> None:
    dense = Net()
    dense.norm.num_batches_tracked.fill_(17)
    artifact.save(contents(), tmp_path / "a.epg")
    assert artifact.load(tmp_path / "a.epg", into=dense).norm.num_batches_tracked.item() == 17


def test_absent_tensors_keep_a_fresh_value_or_are_refused(tmp_path: Path) -> None:
    what, dense = contents(without=("norm.running_mean", "norm.running_var")), Net()
    artifact.save(what, tmp_path / "a.epg", state_names=list(dense.state_dict()))
    small = artifact.load(tmp_path / "a.epg", into=dense)
    assert small.norm.running_var.tolist() == [1.0, 1.0]
    x = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(small.eval()(x), plain(what, x), rtol=1e-4, atol=1e-4)
    dense.norm.running_mean.copy_(torch.arange(6.0))
    with pytest.raises(FormatError, match=r"norm\.running_mean.*different values for 2 places"):
        artifact.load(tmp_path / "a.epg", into=dense)


def test_the_wrong_class_is_told_by_tensor_and_shape(tmp_path: Path) -> None:
    artifact.save(contents(), tmp_path / "named.epg", profile="named")
    with pytest.raises(FormatError, match=r"fc2\.weight: got \(7, 12\).*\(5, 12\)"):
        artifact.load(tmp_path / "named.epg", into=Net(classes=7))
    with pytest.raises(FormatError, match=r"conv\.weight.*not among"):
        artifact.load(tmp_path / "named.epg", into=nn.Linear(3, 3))
    artifact.save(contents(), tmp_path / "bare.epg")
    with pytest.raises(FormatError, match=r"fc2\.(weight|bias).*\(7"):
        artifact.load(tmp_path / "bare.epg", into=Net(classes=7))
    with pytest.raises(FormatError, match="the file holds 10"):
        artifact.load(tmp_path / "bare.epg", into=nn.Linear(3, 3))


def test_values_can_be_had_without_a_module(tmp_path: Path) -> None:
    what = contents()
    artifact.save(what, tmp_path / "a.epg", profile="named")
    got = artifact.state_dict(tmp_path / "a.epg")
    assert list(got) == list(SMALL)
    for tensor in what.tensors:
        np.testing.assert_array_equal(got[tensor.name], tensor.values())
        assert got[tensor.name].dtype == np.float32


@pytest.mark.parametrize("profile", PROFILES)
def test_a_module_can_be_kept_as_it_is(tmp_path: Path, profile: Profile) -> None:
    model = Net()
    artifact.save(model, tmp_path / "a.epg", profile=profile)
    back = artifact.load(tmp_path / "a.epg", into=Net())
    for name, tensor in model.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name


class Extra(Net):
    """State that is none of the tensors."""

    def __init__(self, told: object) -> None:
        super().__init__()
        self.told = told

    def get_extra_state(self) -> object:
        return self.told

    def set_extra_state(self, state: object) -> None:
        self.told = state


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("told", [{"version": 1}, object(), torch.ones(2)])
def test_extra_state_stays_that_of_the_module_that_is_filled(
    told: object, profile: Profile, tmp_path: Path
) -> None:
    model, path = Extra(told), tmp_path / "a.epg"
    artifact.save(model, path, profile=profile)
    back = artifact.load(path, into=Extra("its own"))
    assert isinstance(back, Extra)
    assert back.told == "its own"
    assert all(
        torch.equal(p, q) for p, q in zip(back.parameters(), model.parameters(), strict=True)
    )
    assert "_extra_state" not in artifact.dense_shapes(model)


def test_what_numpy_has_no_word_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bfloat16"):
        artifact.save(nn.Linear(2, 2, dtype=torch.bfloat16), tmp_path / "a.epg")


def test_missing_and_damaged_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="could not read"):
        artifact.load(tmp_path / "none.epg", into=Net())
    path = tmp_path / "a.epg"
    artifact.save(contents(), path)
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(FormatError, match="cut off"):
        artifact.load(path, into=Net())
    assert codec.breakdown(data, dense_shapes=_floating()).total == len(data)


def _floating() -> dict[str, tuple[int, ...]]:
    state = Net().state_dict()
    return {name: tuple(t.shape) for name, t in state.items() if t.is_floating_point()}
