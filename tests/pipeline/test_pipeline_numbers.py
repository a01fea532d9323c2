"""Numbers that modules keep (``num_heads``) follow the units that they count, into the file and out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.pipeline.tiny_recipe import recipe
from torch import Tensor, nn

from epigram import artifact, codec, config
from epigram.convert import CodedNetwork
from epigram.errors import FormatError
from epigram.pipeline import compress_recipe
from epigram.pipeline.stages import SmallLearner
from epigram.records import FileContents, RawTensor
from epigram.structure import analyse, followed_numbers, remove_units, slice_plan

X = torch.zeros(2, 1, 6, 6)


class Heads(nn.Module):
    """Four heads, whose width is taken from the input."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 4
        self.qkv = nn.Linear(16, 48)
        self.proj = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        batch, places, width = x.shape
        split = self.qkv(x).reshape(batch, places, 3, self.num_heads, width // self.num_heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        weights = torch.softmax(query @ key.transpose(-2, -1) / 2, -1)
        return self.proj((weights @ value).transpose(1, 2).reshape(batch, places, width))


class Attentive(nn.Module):
    """Rows of a picture as places."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 16)
        self.heads = Heads()
        self.hidden = nn.Linear(16, 12)
        self.out = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.flatten(1, 2))
        x = (x + self.heads(x)).mean(1)
        return self.out(torch.relu(self.hidden(x)))


def with_three_heads(network: nn.Module) -> nn.Module:
    structure = analyse(network, X)
    (followed,) = {group for one in structure.attributes for group, _ in one.per_unit}
    keep = np.array([True, False, True, True])
    return remove_units(network, slice_plan(structure, {followed: keep})).eval()


@pytest.fixture(scope="module")
def small() -> nn.Module:
    torch.manual_seed(0)
    return with_three_heads(Attentive())


def test_a_network_whose_heads_have_left_is_read_back(small: Any, tmp_path: Path) -> None:
    assert followed_numbers(small) == {"heads.num_heads (narrow)": 3}
    into = Attentive()
    dense = artifact.dense_shapes(into)
    tensors = tuple(RawTensor(n, dense[n], t.numpy()) for n, t in small.state_dict().items())
    artifact.save(FileContents(tensors, numbers=followed_numbers(small)), tmp_path / "small.epg")
    back = artifact.load(tmp_path / "small.epg", into=into).eval()
    x = torch.randn(3, 1, 6, 6)
    torch.testing.assert_close(back(x), small(x), rtol=0, atol=0)
    assert (back.heads.num_heads, into.heads.num_heads) == (3, 4)
    assert followed_numbers(back) == followed_numbers(small)
    assert not followed_numbers(into)


@pytest.mark.parametrize(
    ("path", "value"),
    [("heads.num_heads", 5), ("heads.nothing", 1), ("", 1), ("heads.qkv (narrow)", 1)],
)
def test_numbers_that_do_not_fit_the_class_are_refused(path: str, value: int) -> None:
    tensor = RawTensor("out.bias", (3,), torch.zeros(3).numpy())
    with pytest.raises(FormatError, match="does not fit Attentive: attribute"):
        artifact.restored(FileContents((tensor,), numbers={path: value}), Attentive())


def test_an_analysis_leaves_no_trace() -> None:
    network = Attentive()
    before = [dict(vars(module)) for module in network.modules()]
    analyse(network, X)
    assert [vars(module).keys() for module in network.modules()] == [one.keys() for one in before]
    assert not followed_numbers(network)


def test_stages_that_resume_get_their_numbers_back(small: nn.Module) -> None:
    loss = nn.functional.cross_entropy
    learner = SmallLearner(small, {}, loss_fn=loss)
    other = SmallLearner(Attentive(), {}, loss_fn=loss)
    other.load_state(learner.state())
    assert followed_numbers(other.module) == followed_numbers(small)
    coded, fresh = CodedNetwork(small), CodedNetwork(Attentive())
    fresh.lay_out_(coded.layout())
    assert fresh.layout() == coded.layout()
    fresh.load_state_dict(coded.state_dict())
    x = torch.randn(3, 1, 6, 6)
    torch.testing.assert_close(fresh.eval()(x), coded.eval()(x), rtol=0, atol=0)


@pytest.mark.parametrize("bits", [False, True])
def test_a_network_with_heads_is_compressed_and_read_back(tmp_path: Path, *, bits: bool) -> None:
    given = recipe(build=Attentive)
    changes: dict[str, Any] = {
        "structure.kl_weight": 5.0,
        "structure.epochs": 6,
        "bits.epochs": 2 * bits,
        "profile": "named",
    }
    settings = config.with_overrides(given.settings, changes)
    result = compress_recipe(
        given, settings, tmp_path / "run", floor="accuracy>=0.3", progress=None
    )
    path = tmp_path / "run" / "model.epg"
    small: Any = artifact.load(path, into=Attentive())
    told = codec.inspect(path.read_bytes())["numbers"]
    assert told == {"heads.num_heads (narrow)": small.heads.num_heads}
    assert small.heads.num_heads < 4
    assert small.heads.qkv.weight.shape == (12 * small.heads.num_heads, 16)
    assert result["file_bytes"] == path.stat().st_size
    assert small(torch.zeros(5, 1, 6, 6)).shape == (5, 3)
