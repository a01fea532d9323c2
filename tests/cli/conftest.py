"""A recipe and a pipeline of a few lines: what a command does with them is what is tested here."""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import epigram
from epigram.data import Splits, TensorSet, split_fixed


@dataclass(frozen=True)
class TrainSettings:
    """How a stage is trained.

    Attributes:
        epochs: passes over the training examples.
        batch_size: examples per step.
        clamp: keep log-variances within bounds.
        logvar_min: the lower bound.
    """

    epochs: int = 3
    batch_size: int = 16
    clamp: bool = True
    logvar_min: float | None = -9.0


@dataclass(frozen=True)
class CompressSettings:
    """All settings.

    Attributes:
        seed: of everything random.
        plain: the plain network's training.
        structure: the pass in which units leave.
    """

    seed: int = 0
    plain: TrainSettings = TrainSettings()
    structure: TrainSettings = TrainSettings(epochs=5)


@dataclass(frozen=True)
class Recipe:
    name: str
    description: str
    build: Any
    load_data: Any
    preprocess: Any = None
    augment: Any = None
    settings: CompressSettings = CompressSettings()
    floor: str = ""
    sources: tuple[str, ...] = ()


def _tiny_data() -> Splits:
    x = torch.randn(64, 4)
    data = TensorSet(x, (x.sum(1) > 0).long(), "tiny", 2)
    return Splits(*split_fixed(data, control=8, validation=8), data)


TINY = Recipe(
    name="tiny/noise",
    description="two layers on noise",
    build=lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)),
    load_data=_tiny_data,
    preprocess=None,
    augment=None,
    settings=CompressSettings(structure=TrainSettings(epochs=7)),
    floor="accuracy>=0.5",
)


@dataclass
class FakePipeline:
    """Records how it was called; returns or raises what a test has put there."""

    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)
    result: dict[str, Any] = field(
        default_factory=lambda: {
            "recipe": "tiny/noise",
            "file_bytes": 1234,
            "dense_bytes": 12340,
            "test_error_percent": 1.5,
            "ratio": 10.0,
            "floor": {"metric": "accuracy", "value": 0.5, "validation_value": 0.6, "met": True},
        }
    )
    error: BaseException | None = None

    def answer(self, name: str, *args: Any, **options: Any) -> Any:
        self.calls.append((name, args, options))
        if self.error is not None:
            raise self.error
        return self.result


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakePipeline:
    """Stands for ``epigram.pipeline`` and ``epigram.recipes`` while a test runs."""
    fake = FakePipeline()
    modules = {"pipeline": types.ModuleType("pipeline"), "recipes": types.ModuleType("recipes")}
    for name in (
        "train_recipe",
        "compress_recipe",
        "evaluate_file",
        "replay_bundle",
        "check_recipe",
    ):
        setattr(modules["pipeline"], name, lambda *a, _name=name, **o: fake.answer(_name, *a, **o))
    modules["pipeline"].CompressSettings = CompressSettings  # type: ignore[attr-defined]
    modules["pipeline"].Recipe = Recipe  # type: ignore[attr-defined]
    modules["recipes"].names = lambda: ["tiny/noise"]  # type: ignore[attr-defined]
    modules["recipes"].get = lambda name: {"tiny/noise": TINY}[name]  # type: ignore[attr-defined]
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, f"epigram.{name}", module)
        monkeypatch.setattr(epigram, name, module, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EPIGRAM_DEBUG", raising=False)
    return fake
