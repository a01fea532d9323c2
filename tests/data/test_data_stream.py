"""Batches: every example once, and a pure function of (seed, epoch)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from epigram.data import (
    Augment,
    Preprocess,
    TensorSet,
    batches,
    batches_per_epoch,
    epoch_order,
    stream,
)
from epigram.errors import ConfigError

DATA = TensorSet(
    torch.randint(0, 256, (23, 1, 6, 6), generator=torch.Generator().manual_seed(0)).byte(),
    torch.arange(23),
    "numbers",
)
AUGMENT = Augment(shift=2, flip=True)


def collect(**settings: object) -> tuple[Tensor, Tensor]:
    arguments = {"batch_size": 5, "seed": 0, "epoch": 0} | settings
    pairs = list(batches(DATA, **arguments))  # type: ignore[arg-type]
    return torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])


def test_every_example_once_with_its_own_target() -> None:
    x, y = collect()
    assert sorted(y.tolist()) == list(range(23))
    assert torch.equal(x, DATA.inputs[y])
    assert not torch.equal(y, torch.arange(23))


def test_sizes_and_drop_last() -> None:
    sizes = [len(y) for _, y in batches(DATA, batch_size=5, seed=0, epoch=0)]
    assert sizes == [5, 5, 5, 5, 3]
    dropped = [len(y) for _, y in batches(DATA, batch_size=5, seed=0, epoch=0, drop_last=True)]
    assert dropped == [5, 5, 5, 5]
    assert batches_per_epoch(23, batch_size=5) == 5
    assert batches_per_epoch(23, batch_size=5, drop_last=True) == 4
    assert batches_per_epoch(20, batch_size=5) == batches_per_epoch(20, batch_size=20) * 4


def test_a_pure_function_of_seed_and_epoch() -> None:
    settings = {"augment": AUGMENT, "preprocess": Preprocess(0.5, 0.5), "seed": 3, "epoch": 7}
    torch.manual_seed(0)
    x, y = collect(**settings)
    torch.manual_seed(99)
    torch.rand(1000)
    state = torch.get_rng_state()
    again_x, again_y = collect(**settings)
    assert torch.equal(x, again_x)
    assert torch.equal(y, again_y)
    assert torch.equal(torch.get_rng_state(), state)  # the global stream is not touched
    for other in ({"seed": 4}, {"epoch": 8}, {"seed": 7, "epoch": 3}):
        assert not torch.equal(y, collect(**(settings | other))[1])


def test_augmentation_differs_between_epochs_and_not_with_the_batch_size() -> None:
    by_epoch = []
    for epoch in (0, 1):
        x, y = collect(augment=AUGMENT, epoch=epoch)
        by_epoch.append(x[torch.argsort(y)])
        whole = collect(augment=AUGMENT, epoch=epoch, batch_size=23)
        assert torch.equal(x, whole[0])
        assert torch.equal(y, whole[1])
    assert not torch.equal(by_epoch[0], by_epoch[1])


def test_augment_comes_before_preprocess() -> None:
    x, _ = collect(augment=AUGMENT, preprocess=Preprocess(0.5, 0.25))
    raw, _ = collect(augment=AUGMENT)
    assert torch.equal(x, Preprocess(0.5, 0.25)(raw))
    assert x.min() == -2.0  # the black that moved in is normalised like any other black


def test_augmentation_does_not_share_the_random_numbers_of_the_order() -> None:
    x, y = collect(augment=AUGMENT)
    shared = AUGMENT.draw(len(DATA), generator=stream._generator(0, 0, stream._ORDER))
    own = AUGMENT.draw(len(DATA), generator=stream._generator(0, 0, stream._AUGMENT))
    assert torch.equal(x, AUGMENT.apply(DATA.inputs[y], own))
    assert not torch.equal(x, AUGMENT.apply(DATA.inputs[y], shared))


def test_continues_in_the_middle_of_an_epoch() -> None:
    whole = list(batches(DATA, batch_size=5, seed=1, epoch=2, augment=AUGMENT))
    rest = list(batches(DATA, batch_size=5, seed=1, epoch=2, augment=AUGMENT, first_batch=3))
    assert len(rest) == 2
    for (x, y), (expected_x, expected_y) in zip(rest, whole[3:], strict=True):
        assert torch.equal(x, expected_x)
        assert torch.equal(y, expected_y)
    assert list(batches(DATA, batch_size=5, seed=1, epoch=2, first_batch=5)) == []


def test_the_order_is_uniform() -> None:
    """Where example 0 lands over 4 000 epochs, in 4 cells: chi-squared(3) beyond 22 is 6e-5."""
    places = [int((epoch_order(8, seed=5, epoch=e) == 0).nonzero()) // 2 for e in range(4000)]
    count = torch.bincount(torch.tensor(places), minlength=4)
    assert float(((count - 1000.0) ** 2 / 1000.0).sum()) < 22


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size: got 0"),
        ({"batch_size": 24, "drop_last": True}, "drop_last leaves nothing"),
        ({"seed": -1}, "seed -1"),
        ({"epoch": -1}, "epoch -1"),
        ({"first_batch": -1}, "first_batch"),
    ],
)
def test_refuses_at_the_call_not_at_the_first_batch(
    settings: dict[str, object], message: str
) -> None:
    arguments = {"batch_size": 5, "seed": 0, "epoch": 0} | settings
    with pytest.raises(ConfigError, match=message):
        batches(DATA, **arguments)  # type: ignore[arg-type]
