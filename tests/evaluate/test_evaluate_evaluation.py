"""Accuracy, NLL, calibration and confusion against loops over plain numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from epigram.errors import ConfigError, DataError
from epigram.evaluate import calibration_bins, evaluate, evaluate_logits, predictions
from epigram.records import Floor


def example_logits(examples: int = 400, classes: int = 5) -> tuple[Tensor, Tensor]:
    targets = torch.randint(0, classes, (examples,))
    logits = 2.0 * torch.randn(examples, classes)
    logits[torch.arange(examples), targets] += 1.5
    return logits, targets


def test_figures_equal_a_loop_over_examples() -> None:
    logits, targets = example_logits()
    right, nll = 0, 0.0
    confusion = [[0] * 5 for _ in range(5)]
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(15)]
    for row, label in zip(logits.tolist(), targets.tolist(), strict=True):
        answer = max(range(5), key=row.__getitem__)
        total = math.fsum(math.exp(value) for value in row)
        nll += math.log(total) - row[label]
        right += answer == label
        confusion[label][answer] += 1
        confidence = math.exp(row[answer]) / total
        number = next(m for m in range(1, 16) if (m - 1) / 15 < confidence <= m / 15)
        bins[number - 1].append((confidence, answer == label))
    gaps = [
        len(b) / 400 * abs(sum(c for c, _ in b) / len(b) - sum(r for _, r in b) / len(b))
        for b in bins
        if b
    ]
    found = evaluate_logits(logits, targets)
    assert found.n == 400
    assert found.accuracy == right / 400
    assert found.error_percent == pytest.approx(100 - right / 4, rel=1e-14)
    assert found.confusion.tolist() == confusion
    # fp64 sums of 400 terms of order 1: 400 * 2**-53 is below 1e-13
    assert found.nll == pytest.approx(nll / 400, rel=1e-12)
    assert found.calibration_error == pytest.approx(sum(gaps), rel=1e-10)
    assert found.bins.count.tolist() == [len(b) for b in bins]


def test_calibration_of_a_known_case() -> None:
    """Ten answers at confidence 0.9, six right: off by 0.3; ten at 0.6, six right: off by 0."""
    confidence = np.array([0.9] * 10 + [0.6] * 10)
    correct = np.array([True] * 6 + [False] * 4 + [True] * 6 + [False] * 4)
    bins = calibration_bins(confidence, correct)
    assert bins.error() == pytest.approx(0.15, rel=1e-12)
    assert bins.count.sum() == 20
    assert bins.count[13] == 10  # (13/15, 14/15] holds 0.9
    assert bins.accuracy[13] == pytest.approx(0.6)
    assert bins.confidence[13] == pytest.approx(0.9)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50))
def test_calibration_error_is_a_fraction_and_every_answer_is_counted(
    answers: list[tuple[float, bool]],
) -> None:
    bins = calibration_bins(np.array([c for c, _ in answers]), np.array([r for _, r in answers]))
    assert 0.0 <= bins.error() <= 1.0
    assert bins.count.sum() == len(answers)


def test_extreme_logits_have_a_finite_nll() -> None:
    """log(1 + exp(-2000)) vanishes: the NLL of the wrong answer is the gap itself."""
    logits = torch.tensor([[1000.0, -1000.0], [1000.0, -1000.0]])
    found = evaluate_logits(logits, torch.tensor([0, 1]))
    assert found.nll == 1000.0
    assert found.accuracy == 0.5


def test_nan_outputs_are_wrong_and_meet_no_floor() -> None:
    logits = torch.tensor([[3.0, 1.0], [float("nan"), 1.0], [float("nan"), float("nan")]])
    found = evaluate_logits(logits, torch.tensor([0, 0, 0]))
    assert found.accuracy == pytest.approx(1 / 3)
    assert found.confusion.tolist() == [[1, 0], [0, 0]]
    assert math.isnan(found.nll)
    assert math.isnan(found.calibration_error)
    assert not Floor.parse("nll<=1000").met(found.metric("nll"))


def test_metric_by_name_and_custom_metrics() -> None:
    logits, targets = example_logits()

    def top2(outputs: Tensor, labels: Tensor) -> float:
        best = outputs.topk(2, dim=1).indices
        return float((best == labels[:, None]).any(dim=1).double().mean())

    found = evaluate_logits(logits, targets, metrics={"top2": top2})
    assert found.metric("accuracy") == found.accuracy
    assert found.metric("error") == pytest.approx(1 - found.accuracy)
    assert found.metric("nll") == found.nll
    assert found.metric("calibration_error") == found.calibration_error
    assert found.accuracy < found.metric("top2") < 1
    assert json.loads(json.dumps(found.figures()))["top2"] == found.metric("top2")
    with pytest.raises(ConfigError, match=r"'nll', 'calibration_error', 'top2'.*mean 'accuracy'"):
        found.metric("acuracy")
    with pytest.raises(ConfigError, match="are taken"):
        evaluate_logits(logits, targets, metrics={"nll": top2})


@pytest.mark.parametrize(
    ("logits", "targets", "message"),
    [
        (torch.zeros(3, 2), torch.tensor([0, 1, 2]), "labels run from 0 to 2, but there are 2"),
        (torch.zeros(3, 2), torch.tensor([0, 1, -1]), "labels run from -1"),
        (torch.zeros(3, 2), torch.zeros(3), "one integer label per example"),
        (torch.zeros(3, 2), torch.tensor([0, 1]), "for 2 labels"),
        (torch.zeros(3), torch.tensor([0, 1, 0]), "expected \\[examples, classes\\]"),
        (torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), "at least one example"),
    ],
)
def test_refuses(logits: Tensor, targets: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate_logits(logits, targets)


# --- a module over a set ----------------------------------------------------------------------


def noisy_net() -> nn.Module:
    """Answers differ between training and evaluation mode."""
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))


def test_evaluates_in_evaluation_mode_and_restores_every_flag() -> None:
    model = noisy_net()
    model[1].eval()
    flags = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x, y = torch.randn(50, 4), torch.randint(0, 3, (50,))
    found = evaluate(model, (x, y), batch_size=7)
    assert [module.training for module in model.modules()] == flags
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    expected = evaluate_logits(model.eval()(x), y)
    assert found.nll == pytest.approx(expected.nll, rel=1e-6)
    assert np.array_equal(found.confusion, expected.confusion)


def test_flags_are_restored_after_an_error() -> None:
    model = noisy_net()
    with pytest.raises(RuntimeError):
        predictions(model, torch.zeros(3, 5))
    assert all(module.training for module in model.modules())


class Labelled:
    inputs = torch.arange(6, dtype=torch.uint8).view(3, 2)
    targets = torch.tensor([1, 1, 0])


def test_takes_sets_pairs_and_inputs_and_preprocesses_each_batch() -> None:
    def half(x: Tensor) -> Tensor:
        return x.float() / 2

    expected = Labelled.inputs.float() / 2
    for data in (Labelled(), (Labelled.inputs, Labelled.targets), Labelled.inputs):
        outputs = predictions(nn.Identity(), data, preprocess=half, batch_size=2)
        assert torch.equal(outputs, expected)
        assert not outputs.requires_grad
    assert evaluate(nn.Identity(), Labelled(), preprocess=half).accuracy == pytest.approx(2 / 3)


def test_outputs_are_fp32() -> None:
    assert predictions(nn.Linear(2, 2).double(), torch.zeros(3, 2).double()).dtype == torch.float32


class Returns(nn.Module):
    def __init__(self, make: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: Tensor) -> object:
        return self.make(x)


@pytest.mark.parametrize(
    ("make", "message"),
    [(lambda x: {"logits": x}, "returns dict"), (lambda x: x[:1], r"returns \(1, 2\) for 3")],
)
def test_refuses_other_outputs(make: Callable[[Tensor], object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        predictions(Returns(make), torch.zeros(3, 2))


def test_refuses_no_examples_and_no_batch() -> None:
    with pytest.raises(DataError, match="no examples"):
        predictions(nn.Identity(), torch.zeros(0, 2))
    with pytest.raises(ConfigError, match="batch_size: got 0"):
        predictions(nn.Identity(), torch.zeros(2, 2), batch_size=0)
