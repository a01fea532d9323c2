"""A user's own network: how its data are split, and what makes a run of it the same run."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch

from epigram import config
from epigram.cli import custom
from epigram.errors import DataError
from epigram.pipeline.identity import describe_network
from epigram.pipeline.job import job_config

NETS = """
from torch import nn
WIDTH = 3
def build():
    return nn.Linear(4, WIDTH)
"""
DATA = """
import torch
def loaders():
    return torch.zeros(60, 4), torch.zeros(60, dtype=torch.long)
"""


@pytest.mark.parametrize("count", [3, 5, 11, 12, 25])
def test_every_part_of_the_smallest_data_set_has_an_example(count: int) -> None:
    parts = custom.splits((torch.zeros(count, 4), torch.zeros(count, dtype=torch.long)))
    share = 2 if count == 25 else 1
    sizes = [len(part) for part in (parts.fit, parts.control, parts.validation)]
    assert sizes == [count - 2 * share, share, share]


def test_two_examples_are_too_few() -> None:
    with pytest.raises(DataError, match="expected at least one in each part"):
        custom.splits((torch.zeros(2, 4), torch.zeros(2, dtype=torch.long)))


def described(nets: str, data: str) -> dict[str, object]:
    """The configuration of a run of these two modules, imported anew."""
    for name, text in (("own_nets", nets), ("own_data", data)):
        sys.modules.pop(name, None)
        Path(f"{name}.py").write_text(text, encoding="utf-8")
    importlib.invalidate_caches()
    made = custom.recipe("own_nets:build", "own_data:loaders", weights=None)
    network = describe_network(made.build())["layers"]
    return job_config(made, made.settings, network=network)


def test_a_changed_module_changes_the_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    base = described(NETS, DATA)
    assert base == described(NETS, DATA)
    for nets, data, where in [
        (
            NETS.replace("Linear(4, WIDTH)", "Linear(4, WIDTH, bias=False)"),
            DATA,
            "sources.own_nets",
        ),
        (f"{NETS}\ndef unused():\n    return 0\n", DATA, "sources.own_nets"),
        (NETS, DATA.replace("60", "61"), "sources.own_data"),
    ]:
        other = described(nets, data)
        assert config.identity(other) != config.identity(base)
        assert where in config.differences(base, other)
