"""The example in the documentation runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import torch

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data.md"


def test_the_example_of_the_data_page() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 1
    names: dict[str, object] = {}
    exec(blocks[0].replace("    ...", "    break"), names)
    x, y = names["x"], names["y"]
    assert isinstance(x, torch.Tensor)
    assert isinstance(y, torch.Tensor)
    assert x.shape == (128, 1, 28, 28)
    assert x.dtype == torch.float32
    assert y.shape == (128,)
