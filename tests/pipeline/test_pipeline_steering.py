"""The controller settles where it should, whatever it is asked to hold."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from tests.pipeline.tiny_recipe import recipe, settings

from epigram.errors import ConfigError
from epigram.goal import Goal, parse_bytes
from epigram.pipeline.candidates import MOST, Candidate, Front
from epigram.pipeline.job import Job
from epigram.pipeline.steering import (
    CYCLE_WIDTH,
    Controller,
    HeldBudget,
    HeldFloor,
    SteerSettings,
    room_of,
)
from epigram.records import Floor


def run(controller: Controller, plant, *, epochs: int = 100, noise: float = 0.0) -> list[float]:
    """Multipliers over a training whose metric and size are functions of the multiplier."""
    multiplier, seen = 1.0, []
    for epoch in range(1, epochs + 1):
        metric, size = plant(multiplier)
        metric += noise * math.sin(7.0 * epoch)
        multiplier = controller.next(
            multiplier, metric=metric, size_bytes=size, done=epoch / epochs
        )
        seen.append(multiplier)
    return seen


def falling(multiplier: float) -> tuple[float, float]:
    """Accuracy and bytes that fall as the complexity weighs more."""
    return 0.995 - 0.004 * multiplier, 2000.0 / multiplier


@pytest.mark.parametrize("noise", [0.0, 0.001])
def test_a_floor_is_met_a_little_above_it_and_the_last_epochs_are_calm(noise):
    floor = HeldFloor(Floor("accuracy", 0.985), 5000, ahead=0.5)
    seen = run(Controller(SteerSettings(), floor), falling, noise=noise)
    accuracy = falling(seen[-1])[0]
    assert 0.985 < accuracy < 0.985 + 1.5 * floor.width
    assert abs(math.log(seen[-1] / seen[-10])) < 0.1


def test_a_metric_that_should_be_small_is_held_from_above():
    held = HeldFloor(Floor("nll", 0.05, larger_is_better=False), 5000)
    seen = run(Controller(SteerSettings(), held), lambda m: (0.02 + 0.01 * m, 1000.0))
    assert 0.02 + 0.01 * seen[-1] == pytest.approx(0.05, rel=0.05)


def test_a_budget_is_approached_from_both_sides():
    for budget in (500, 4000):
        seen = run(Controller(SteerSettings(), HeldBudget(budget)), falling)
        assert falling(seen[-1])[1] == pytest.approx(0.97 * budget, rel=0.03)


def test_a_nan_is_a_missed_floor_and_is_not_remembered():
    controller = Controller(SteerSettings(begin=0.0), HeldFloor(Floor("accuracy", 0.9), 100))
    assert controller.next(1.0, metric=math.nan, size_bytes=1.0, done=0.5) < 1.0
    assert controller.remembered is None


def test_before_it_begins_it_only_brakes():
    def moved(metric: float, done: float) -> float:
        held = HeldFloor(Floor("accuracy", 0.9), 100)  # its noise is 0.03
        return Controller(SteerSettings(begin=0.5), held).next(
            1.0, metric=metric, size_bytes=1.0, done=done
        )

    assert moved(0.99, 0.4) == 1.0 == moved(0.85, 0.4)
    assert moved(0.70, 0.4) < 1.0
    assert moved(0.99, 0.6) > 1.0 > moved(0.85, 0.6)


@pytest.mark.parametrize(
    ("floor", "value", "expected"),
    [
        ("accuracy>=0.99", 0.994, 0.4),
        ("accuracy>=0.99", 0.98, 0.0),
        ("nll<=0.05", 0.02, 0.6),
        ("nll<=0.05", 0.05, 0.0),
        ("score>=20", 25.0, 0.25),
        ("score>=20", 90.0, 1.0),
        ("score>=0", 1.0, 0.0),
        ("accuracy>=1", 1.0, 0.0),
        ("nll<=0.05", math.nan, 0.0),
    ],
)
def test_room_is_the_share_of_the_allowed_loss_that_is_left(floor, value, expected):
    asked = Floor.parse(floor)
    assert room_of(asked, asked.margin(value)) == pytest.approx(expected)


@pytest.mark.parametrize(
    "wrong", [{"rate": -1.0}, {"smooth": 1.0}, {"least": 2.0}, {"settle": 1.5}], ids=str
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ConfigError, match="SteerSettings"):
        SteerSettings(**wrong)


def candidate(epoch: int, size: int, control: float) -> Candidate:
    return Candidate(epoch, data=bytes(size), predicted_bytes=size, control=control)


def test_the_front_holds_the_best_of_each_size_class_whatever_the_order():
    offers = [
        candidate(*one)
        for one in (
            (1, 1012, 0.95), (2, 1030, 0.93), (3, 1080, 0.94), (4, 1090, 0.96), (5, 1010, 0.95),
            (6, 1010, math.nan), (7, 1010, 0.95), (8, 1090, 0.95), (9, 1200, 0.90),
        )
    ]  # fmt: skip
    for order in (offers, offers[::-1], sorted(offers, key=lambda c: c.control)):
        front = Front(Floor("accuracy", 0.9))
        for one in order:
            front.offer(one)
        found = [(c.epoch, c.size_bytes) for c in front.kept]
        assert found == [(7, 1010), (4, 1090), (9, 1200)]  # the last is worse than both, and stays
    other = Front(Floor("accuracy", 0.9))
    other.load(front.state())
    assert other.kept == front.kept


def test_the_front_does_not_grow_without_end_and_keeps_its_ends_and_the_best():
    for best in (0, 17, 59):
        front = Front(Floor("nll", 0.1, larger_is_better=False))
        for i in range(60):
            front.offer(candidate(i, int(1000 * 1.04**i), 0.5 if i == best else 1.0 - 0.001 * i))
        sizes = [c.size_bytes for c in front.kept]
        assert len(sizes) == MOST and sizes[0] == 1000 and sizes[-1] == int(1000 * 1.04**59)
        assert best in {c.epoch for c in front.kept}
    assert len(front.kept) == MOST


def test_what_a_smaller_file_beats_on_control_goes_first():
    front = Front(Floor("accuracy", 0.9))
    for i in range(MOST + 4):
        front.offer(candidate(i, int(1000 * 1.1**i), 0.9 + 0.001 * i - 0.5 * (i in (5, 6, 7, 20))))
    assert {c.epoch for c in front.kept} == set(range(MOST + 4)) - {5, 6, 7, 20}


def test_goals_are_read_and_resolved():
    assert str(Goal.of("accuracy>=0.98")) == "accuracy>=0.98"
    drop = Goal.of("", None, 0.005, named=False)
    assert drop.resolved(0.991) == Floor("accuracy", 0.986)
    assert Goal.of("nll<=1", None, 0.1, named=False).resolved(0.5).value == pytest.approx(0.6)
    assert Goal.of("", 900, None, named=False).resolved(0.99).value == 0.99
    with pytest.raises(ConfigError, match="at least 1 byte"):
        Goal.of("", 0, None, named=False)
    with pytest.raises(ConfigError, match=r"half a point is 0\.005"):
        Goal.of("", None, 5.0, named=False)
    assert Goal.of("nll<=1", None, 5.0, named=False).max_drop == 5.0


def test_a_budget_and_a_drop_can_be_asked_of_another_metric():
    drop = Goal.of("accuracy>=0.9", None, 0.1, metric="nll", named=False)
    assert drop.resolved(0.5) == Floor("nll", 0.6, larger_is_better=False)
    assert Goal.of("", 900, None, metric="margin", named=False).floor.larger_is_better
    assert str(Goal.of("", 900, None, metric="mine<=", named=False)) == "mine in 900 bytes"
    assert not Goal.of("", 900, None, metric="mine<=", named=False).floor.larger_is_better
    with pytest.raises(ConfigError, match="a floor names its metric itself"):
        Goal.of("accuracy>=0.9", metric="nll")
    with pytest.raises(ConfigError, match=r"metric: got 'nll<=1', expected a name"):
        Goal.of("", 900, None, metric="nll<=1", named=False)


@pytest.mark.parametrize(
    ("floor", "remedy"),
    [
        ("accuracy<=0.5", "accuracy>="),
        ("nll>=0.1", "nll<="),
        ("error>=0.1", "error<="),
        ("accuracy>=98.2", "98.2%"),
        ("error<=2", "at most 1"),
        ("calibration_error<=3", "a calibration_error of at most 1"),
    ],
)
def test_a_floor_that_is_surely_mistaken_is_refused(floor, remedy, tmp_path: Path):
    with pytest.raises(ConfigError, match="floor: got") as caught:
        Job(recipe(), settings(), tmp_path, Floor.parse(floor), None, None).check_floor()
    assert remedy in str(caught.value)


@pytest.mark.parametrize("text", ["", "kB", "-3", "0.2", "1.5", "1 GBB", "1e3kB"])
def test_sizes_that_are_none_are_refused(text):
    with pytest.raises(ConfigError, match="budget: got"):
        parse_bytes(text)


def test_what_is_aimed_at_on_control_allows_for_how_much_harder_validation_is(
    tmp_path: Path,
) -> None:
    job = Job(recipe(), settings(), tmp_path, Floor("accuracy", 0.9), None, None)
    network = job.build()
    right = [job.evaluate(network, p).accuracy for p in (job.splits.control, job.splits.validation)]
    job.compare_splits(network)
    assert job.harder == pytest.approx(right[0] - right[1]) and right[0] != right[1]
    constraint = job.constraint(job.splits.control)
    ahead = job.settings.steer.ahead * HeldFloor(Floor("accuracy", 0.9), 1).width
    ahead /= math.sqrt(len(job.splits.control))
    allowed = job.settings.steer.harder * job.harder
    assert constraint.push(0.9 + allowed + ahead, 0.0) == pytest.approx(0.0, abs=1e-9)


def test_for_a_metric_that_is_best_small_too(tmp_path: Path) -> None:
    job = Job(recipe(), settings(), tmp_path, Floor("nll", 0.5, larger_is_better=False), None, None)
    job.compare_splits(job.build())
    control, validation = (
        job.evaluate(job.build(), p).nll for p in (job.splits.control, job.splits.validation)
    )
    assert job.harder == pytest.approx(validation - control)


def test_with_cycles_a_floor_is_followed_where_they_end_and_nowhere_else():
    held = HeldFloor(Floor("accuracy", 0.985), 5000)
    controller = Controller(SteerSettings(), held)
    missed = {"metric": 0.97, "size_bytes": 1000.0, "done": 0.9}
    assert controller.next(1.0, **missed, cycle_ends=False) == 1.0
    assert controller.next(1.0, **missed, cycle_ends=True) == pytest.approx(math.exp(-1), rel=1e-3)
    met = {**missed, "metric": 0.985 + held.width}
    moved = math.exp(math.tanh(1.0 / CYCLE_WIDTH))
    assert controller.next(1.0, **met, cycle_ends=True) == pytest.approx(moved)
    budget = Controller(SteerSettings(), HeldBudget(500))  # bytes do not suffer from the step size
    assert budget.next(1.0, **missed, cycle_ends=False) > 1.0
