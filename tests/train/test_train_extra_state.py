"""Checkpoints hold extra state that needs no pickle; other extra state stays the module's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from epigram.train import PlainLearner
from epigram.train.state import Place, capture, restore
from epigram.train.storage import load_state, save_state

CPU = torch.device("cpu")


class Counted(nn.Linear):
    """A layer that keeps anything beside its tensors."""

    def __init__(self, told: object) -> None:
        super().__init__(2, 2)
        self.told = told

    def get_extra_state(self) -> object:
        return self.told

    def set_extra_state(self, state: object) -> None:
        self.told = state


@pytest.mark.parametrize(
    ("told", "then"), [({"calls": [3, None]}, {"calls": [3, None]}), (Path("a"), "its own")]
)
def test_extra_state_in_a_checkpoint(told: object, then: object, tmp_path: Path) -> None:
    first, second = Counted(told), Counted("its own")
    for module, act in ((first, save_state), (second, load_state)):
        learner, place = PlainLearner(module), Place()
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        if act is save_state:
            save_state(tmp_path / "a.pt", capture(learner, optimizer, place, CPU))
        else:
            restore(load_state(tmp_path / "a.pt", device=CPU), learner, optimizer, place, CPU)
    assert second.told == then
    assert torch.equal(first.weight, second.weight)
