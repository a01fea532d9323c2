"""Splits: disjoint, complete, and the same for ever."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from epigram.data import Splits, TensorSet, split_fixed
from epigram.data.splits import split_indices
from epigram.errors import DataError


@given(fit=st.integers(1, 200), control=st.integers(1, 100), validation=st.integers(1, 100))
def test_parts_are_disjoint_and_complete(fit: int, control: int, validation: int) -> None:
    total = fit + control + validation
    parts = split_indices(total, control=control, validation=validation)
    assert [len(part) for part in parts] == [fit, control, validation]
    assert sorted(np.concatenate(parts).tolist()) == list(range(total))


def test_the_mnist_split_is_pinned_and_ignores_every_seed() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    state = np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    parts = split_indices(60_000, control=5_000, validation=5_000)
    assert np.array_equal(np.random.get_state()[1], state)  # type: ignore[index,arg-type]
    digests = [hashlib.sha256(part.astype("<i8").tobytes()).hexdigest()[:16] for part in parts]
    assert digests == PINNED


PINNED = [
    "3db0bb78ddbbe5df",
    "96c9c9bfdafa9b87",
    "9e7045764fa19bba",
]  # a change here changes every published result


@pytest.mark.parametrize("sizes", [(10, 5, 5), (10, 0, 5), (10, 5, 0), (3, 5, 5)])
def test_refuses_an_empty_part(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(DataError, match="at least one in each part"):
        split_indices(sizes[0], control=sizes[1], validation=sizes[2])


def test_split_fixed_and_describe() -> None:
    data = TensorSet(torch.arange(20.0).view(10, 2), torch.arange(10), "ten")
    fit, control, validation = split_fixed(data, control=2, validation=3)
    seen = torch.cat([fit.targets, control.targets, validation.targets])
    assert sorted(seen.tolist()) == list(range(10))
    assert torch.equal(fit.inputs[:, 0], 2.0 * fit.targets)  # inputs and targets stay together
    assert control.name == "ten/control"
    described = Splits(fit, control, validation).describe()
    assert list(described) == ["fit", "control", "validation"]
    assert described["control"] == {"examples": 2, "sha256": control.fingerprint()}
    assert list(Splits(fit, control, validation, data).describe())[-1] == "test"
    assert Splits(fit, control, validation).to("cpu").fit is fit


def test_data_held_back_steer_and_judge_and_training_data_stay_whole() -> None:
    labels = torch.tensor([0, 1] * 30)
    numbers = torch.arange(75.0).view(-1, 1)
    train, held = (numbers[:60], labels), (numbers[60:], labels[:15])
    made = Splits.of(train, validation=held, test=held)
    assert [len(p) for p in (made.fit, made.control, made.validation)] == [60, 7, 8]
    assert made.test is not None and len(made.test) == 15
    seen = sorted(torch.cat([made.control.inputs, made.validation.inputs]).view(-1).tolist())
    assert seen == held[0].view(-1).tolist()
    twelfths = Splits.of(train)
    assert [len(p) for p in (twelfths.fit, twelfths.control, twelfths.validation)] == [50, 5, 5]
    with pytest.raises(DataError, match="validation: got 1 example, expected at least 2"):
        Splits.of(train, validation=(held[0][:1], labels[:1]))
