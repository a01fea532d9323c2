"""What the README shows works as it stands there."""

from __future__ import annotations

import re
import shlex
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from epigram import cli
from epigram.cli import asked, compress

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(6, 16)
        self.out = nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.out(torch.relu(self.hidden(x)))
        return out


def data(examples: int) -> TensorDataset:
    x = torch.randn(examples, 6)
    return TensorDataset(x, (x[:, 0] > 0).long())


def trained_net() -> Net:
    torch.manual_seed(1)
    net, (x, y) = Net(), data(600)[:]
    adam = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(60):
        adam.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        adam.step()
    return net


@pytest.fixture
def my_project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> types.ModuleType:
    module = types.ModuleType("my_project")
    vars(module).update(Net=Net, trained_net=trained_net)
    vars(module).update(train_set=data(1200), val_set=data(200), test_set=data(1000))
    monkeypatch.setitem(sys.modules, "my_project", module)
    monkeypatch.chdir(tmp_path)
    return module


def python_example() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    return str(code)


def test_the_example_is_short() -> None:
    assert len([line for line in python_example().splitlines() if line.strip()]) <= 12


@pytest.mark.slow
def test_the_example_runs(
    my_project: types.ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scope: dict[str, object] = {}
    exec(compile(python_example(), "README.md", "exec"), scope)
    met, size, error = capsys.readouterr().out.split()[-3:]
    assert met == "True"
    assert int(size) == (tmp_path / "model.epg").stat().st_size
    assert 0 <= float(error) <= 17  # the floor's 7, and four deviations of 100 validation examples
    small, model = scope["small"], scope["model"]
    assert isinstance(small, Net)
    assert isinstance(model, Net)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())


def commands() -> list[str]:
    shown = re.findall(r"(?:^|`)(?:\.venv/bin/)?(epigram [a-z]+ [^`#\n]*)", README, re.MULTILINE)
    return sorted({command.strip() for command in shown})


@pytest.mark.parametrize("command", commands())
def test_the_commands_are_ones_that_exist(command: str) -> None:
    _, name, *arguments = shlex.split(command)
    assert name in cli.COMMANDS
    if name in {"train", "compress"}:
        call = asked.read(compress.parser(), arguments)
        assert isinstance(call, asked.Asked)


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
