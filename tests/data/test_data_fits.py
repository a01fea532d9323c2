"""A data set that does not fit a model is refused with one clear line."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from epigram.data import Preprocess, TensorSet, check_fits
from epigram.errors import DataError


def small_net() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3))


def images(*shape: int, labels: int = 3) -> TensorSet:
    inputs = torch.randint(0, 256, (6, *shape), dtype=torch.uint8)
    return TensorSet(inputs, torch.arange(6) % labels, "pictures")


def test_returns_the_number_of_outputs_and_leaves_the_model_alone() -> None:
    model = small_net()
    model[1].eval()  # a flag that differs from the others must be restored, too
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [module.training for module in model.modules()]
    assert check_fits(model, images(1, 2, 2), preprocess=Preprocess(0.5, 0.5)) == 3
    assert [module.training for module in model.modules()] == flags
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_wrong_shape_is_named() -> None:
    with pytest.raises(DataError, match=r"pictures: Sequential does not take .*\(1, 3, 3\)"):
        check_fits(small_net(), images(1, 3, 3), preprocess=Preprocess(0.5, 0.5))


def test_a_wrong_type_is_named() -> None:
    with pytest.raises(DataError, match=r"type torch\.uint8"):
        check_fits(small_net(), images(1, 2, 2))


def test_flags_are_restored_after_a_failure() -> None:
    model = small_net()
    with pytest.raises(DataError):
        check_fits(model, images(1, 3, 3))
    assert all(module.training for module in model.modules())


def test_more_labels_than_outputs() -> None:
    with pytest.raises(DataError, match="run from 0 to 3, but Sequential has 3 outputs"):
        check_fits(small_net(), images(4, labels=4), preprocess=Preprocess(0.5, 0.5))


def test_float_targets_are_not_compared_with_the_outputs() -> None:
    data = TensorSet(torch.zeros(3, 4), torch.full((3,), 99.5))
    assert check_fits(small_net(), data) == 3


class Returns(nn.Module):
    def __init__(self, value: object) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> object:
        return self.value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"logits": 1}, "returns dict"),
        (torch.zeros(()), r"returns \(\)"),
        (torch.zeros(2, 3, 4), "one label per example"),
    ],
)
def test_outputs_that_are_not_class_scores(value: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_fits(Returns(value), images(4))
