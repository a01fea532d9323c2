"""The example in the documentation runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

from torch import nn

from epigram.records import Structure

PAGE = Path(__file__).resolve().parents[2] / "docs" / "structure.md"


def test_the_example_of_the_structure_page() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 1
    names: dict[str, object] = {}
    exec(blocks[0], names)
    small, structure, difference = names["small"], names["structure"], names["difference"]
    assert isinstance(small, nn.Sequential)
    assert isinstance(structure, Structure)
    assert isinstance(difference, float)
    assert (small[0].out_channels, small[4].in_features) == (4, 36)
    assert [(group.name, group.units) for group in structure.groups] == [("0", 4)]
    assert difference < 1e-5
