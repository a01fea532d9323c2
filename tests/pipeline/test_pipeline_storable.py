"""A network whose numbers would follow its units is compressed without the units that they count."""

from __future__ import annotations

from pathlib import Path

import torch
from tests.pipeline.tiny_recipe import recipe
from torch import Tensor, nn

from epigram import artifact, config
from epigram.pipeline import compress_recipe
from epigram.pipeline.storable import storable
from epigram.structure import analyse


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


def test_groups_that_a_number_follows_are_left_whole_with_the_reason() -> None:
    whole = analyse(Attentive(), torch.zeros(2, 1, 6, 6))
    told = storable(whole)
    gone = {group.name for group in whole.groups} - {group.name for group in told.groups}
    assert [whole.group(name).units for name in gone] == [4]
    (left,) = (one for one in told.left_whole if one.where in gone)
    assert "num_heads" in left.operation
    assert not told.attributes
    assert "hidden" in {group.name for group in told.groups}


def test_a_network_with_heads_is_compressed_and_read_back(tmp_path: Path) -> None:
    given = recipe(build=Attentive)
    settings = config.with_overrides(given.settings, {"structure.kl_weight": 5.0})
    result = compress_recipe(
        given, settings, tmp_path / "run", floor="accuracy>=0.3", progress=None
    )
    small = artifact.load(tmp_path / "run" / "model.epg", into=Attentive())
    assert small.heads.qkv.weight.shape == (48, 16)
    assert small.hidden.weight.shape[0] < 12
    assert result["file_bytes"] == (tmp_path / "run" / "model.epg").stat().st_size
    assert small(torch.zeros(5, 1, 6, 6)).shape == (5, 3)
