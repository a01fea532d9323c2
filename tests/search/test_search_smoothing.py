"""Sizes without the luck of a trial, for the sampler that would chase it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from epigram.search import Choice, Real, Space
from epigram.search.proposer import Observation
from epigram.search.smoothing import smoothed

SPACE = Space({"x": Real(0.0, 1.0), "y": Real(0.1, 10.0, log=True), "c": Choice(("a", "b"))})
LUCK = 0.3


def trials(count: int) -> tuple[list[Observation], list[float]]:
    """Observations of a bowl with noise, and its true heights."""
    generator = np.random.default_rng(0)
    seen, truth = [], []
    for number in range(count):
        values = SPACE.random(generator)
        x, y = SPACE.encode(values)[:2]
        truth.append(9.0 + 4.0 * (x - 0.3) ** 2 + 2.0 * (y - 0.6) ** 2)
        noisy = truth[-1] + LUCK * float(generator.standard_normal())
        seen.append(Observation(number, values, noisy, x - 0.5))
    return seen, truth


def test_smoothed_sizes_are_nearer_to_the_truth() -> None:
    seen, truth = trials(40)
    told = smoothed(SPACE, seen)
    before = np.array([one.log_size for one in seen]) - truth
    after = np.array([one.log_size for one in told]) - truth
    assert np.sqrt(np.mean(after**2)) < 0.6 * np.sqrt(np.mean(before**2))
    luckiest = int(np.argmin(before))
    assert abs(after[luckiest]) < 0.5 * abs(before[luckiest])


def test_nothing_else_of_a_trial_changes() -> None:
    seen, _ = trials(20)
    seen[3] = replace(seen[3], pending=True, log_size=0.0)
    told = smoothed(SPACE, seen)
    assert told[3] == seen[3]
    assert [replace(one, log_size=0.0) for one in told] == [
        replace(one, log_size=0.0) for one in seen
    ]
    assert smoothed(SPACE, seen[::-1])[::-1] == told


def test_what_is_too_little_to_smooth_is_told_as_it_is() -> None:
    seen, _ = trials(20)
    assert smoothed(SPACE, seen[:9]) == seen[:9]
    equal = [replace(one, log_size=7.0) for one in seen]
    assert smoothed(SPACE, equal) == equal
    assert smoothed(SPACE, []) == []
