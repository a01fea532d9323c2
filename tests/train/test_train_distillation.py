"""Learning from a teacher, on inputs as they are and on mixtures of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from epigram.data import TensorSet
from epigram.errors import ConfigError
from epigram.train import Distillation, PlainLearner, TrainSettings, fit

QUIET = {"progress": None, "stage": "plain", "seed": 0}


def _settings(**more: object) -> TrainSettings:
    return TrainSettings(**{"epochs": 2, "batch_size": 20, "tensorboard": False, **more})


def test_distillation_follows_the_teacher(tmp_path: Path, make_net, fit_set) -> None:
    """With the teacher's share at 1 the labels do not matter, and the student becomes the teacher."""
    teacher, student = make_net(1), make_net(2)
    lies = TensorSet(fit_set.inputs, torch.zeros_like(fit_set.targets), "lies")
    settings = _settings(epochs=40, learning_rate=0.03)
    distillation = Distillation(teacher=teacher, share=1.0, temperature=2.0)
    student[2].p = 0.0
    fit(PlainLearner(student, distillation=distillation), lies, settings, folder=tmp_path, **QUIET)
    with torch.no_grad():
        asked, taught = (F.softmax(n.eval()(fit_set.inputs), 1) for n in (student, teacher))
    assert (asked - taught).abs().mean() < 0.03


@pytest.mark.parametrize("wrong", [{"share": 1.5}, {"temperature": 0.0}, {"mixup": -1.0}])
def test_numbers_out_of_range(wrong: dict[str, float], make_net) -> None:
    with pytest.raises(ConfigError, match=f"Distillation.{next(iter(wrong))}"):
        Distillation(teacher=make_net(), **wrong)


class Negating(nn.Module):
    """A network of the negated input, which it may negate in place."""

    def __init__(self, net: nn.Module, *, in_place: bool) -> None:
        super().__init__()
        self.net, self.in_place = net, in_place

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x.neg_() if self.in_place else -x)


def test_a_student_and_a_teacher_may_change_their_input_in_place(make_net, fit_set) -> None:
    losses = []
    for in_place in (False, True):
        teacher, student = (Negating(make_net(seed), in_place=in_place) for seed in (1, 2))
        student.net[2].p = 0.0
        learner = PlainLearner(student, distillation=Distillation(teacher=teacher, share=0.5))
        loss = learner.loss(fit_set.inputs.clone(), fit_set.targets, kl_weight=1.0).loss
        loss.backward()
        losses.append(loss.item())
    assert losses[0] == losses[1]


class Listening(nn.Module):
    """Answers a linear function of what it is asked, and keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 3)
        self.asked: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.asked.append(x.clone())
        return self.linear(x)


def test_both_are_asked_about_the_same_mixtures_of_the_batch() -> None:
    torch.manual_seed(0)
    student, teacher = Listening(), Listening()
    x, y = torch.randn(6, 8), torch.tensor([0, 1, 2, 0, 1, 2])
    learner = PlainLearner(student, distillation=Distillation(teacher=teacher, mixup=1.0))
    losses = [learner.loss(x, y, kl_weight=1.0).nll for _ in range(20)]
    parts = []
    for ours, theirs, nll in zip(student.asked, teacher.asked, losses, strict=True):
        assert torch.equal(ours, theirs)
        other = x.roll(1, 0)
        part = float(((ours - other) / (x - other)).mean())
        torch.testing.assert_close(ours, part * x + (1 - part) * other)
        answers = student.linear(ours)
        expected = part * F.cross_entropy(answers, y) + (1 - part) * F.cross_entropy(
            answers, y.roll(1)
        )
        torch.testing.assert_close(nll, expected.detach())
        parts.append(part)
    assert 0.5 <= min(parts) < 0.6 < 0.9 < max(parts) <= 1.0


def test_a_student_on_mixtures_becomes_the_teacher(tmp_path: Path, make_net, fit_set) -> None:
    teacher, student = make_net(1), make_net(2)
    student[2].p = 0.0
    learner = PlainLearner(
        student, distillation=Distillation(teacher=teacher, share=1.0, mixup=1.0)
    )
    settings = _settings(epochs=40, learning_rate=0.03)
    fit(learner, fit_set, settings, folder=tmp_path, **QUIET)
    with torch.no_grad():
        asked, taught = (F.softmax(n.eval()(fit_set.inputs), 1) for n in (student, teacher))
    assert (asked - taught).abs().mean() < 0.05


def test_words_cannot_be_mixed(make_net) -> None:
    distillation = Distillation(teacher=make_net(), mixup=0.5)
    with pytest.raises(ConfigError, match=r"got inputs of torch.int64.*set mixup to 0"):
        distillation.mixed(torch.zeros(4, 8, dtype=torch.int64), torch.zeros(4))
