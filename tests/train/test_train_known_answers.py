"""Answers of a teacher that are computed once."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from epigram.train.known_answers import KnownAnswers, fits, hashed


class Counted(nn.Module):
    """Scores, and how many rows were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.rows = nn.Linear(6, 3), 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.rows += len(x)
        return self.linear(x.flatten(1))


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(50, 2, 3, generator=torch.Generator().manual_seed(0))


def test_each_input_is_asked_about_once_in_any_order(images: torch.Tensor):
    teacher = Counted()
    known = KnownAnswers(teacher, lambda: iter(images.split(16)))
    expected = teacher.linear(images.flatten(1))
    for seed in range(3):
        order = torch.randperm(50, generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(known(images[order]), expected[order])
    assert teacher.rows == 50


def test_answers_do_not_depend_on_what_is_asked_first(images: torch.Tensor):
    teacher = Counted()
    one, other = (KnownAnswers(teacher, lambda: iter(images.split(16))) for _ in range(2))
    first = torch.cat([one(images[:7]), one(images[7:])])
    assert torch.equal(first, other(images))


def test_an_input_nobody_foresaw_is_asked_about(images: torch.Tensor):
    teacher = Counted()
    known = KnownAnswers(teacher, lambda: iter([images[:40]]))
    torch.testing.assert_close(known(images), teacher.linear(images.flatten(1)))
    assert teacher.rows == 50


def test_of_inputs_that_never_come_again_nothing_is_kept(images: torch.Tensor):
    teacher = Counted()
    known = KnownAnswers(teacher, lambda: iter([images + 1.0]))
    for _ in range(2):
        torch.testing.assert_close(known(images), teacher.linear(images.flatten(1)))
    assert teacher.rows == 150 and known._table is None


def test_an_answer_is_that_of_eval_and_is_never_trained(images: torch.Tensor):
    teacher = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(6, 3)).train()
    known = KnownAnswers(teacher, lambda: iter([images]))
    assert torch.equal(known(images), known(images)) and not known(images).requires_grad


@pytest.mark.parametrize(
    "values", [(0.0, 1.0), (0.0, 1.0, 2.0, 0.5), tuple(float(n) for n in range(256))]
)
def test_inputs_of_few_values_have_hashes_of_their_own(values: tuple[float, ...]):
    generator = torch.Generator().manual_seed(0)
    x = torch.tensor(values)[torch.randint(0, len(values), (20_000, 64), generator=generator)]
    x = x.unique(dim=0)
    assert len(hashed(x).unique()) == len(x)


def test_neighbours_in_one_place_differ():
    x = torch.zeros(784, 784)
    x.fill_diagonal_(torch.finfo(torch.float32).tiny)
    assert len(hashed(torch.cat([x, 2 * x, torch.ones(1, 784)])).unique()) == 2 * 784 + 1


def test_memory_is_bounded():
    assert fits(9 * 50_000, 10) and not fits(162 * 50_000, 100)
