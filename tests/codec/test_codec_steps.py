"""Step sizes: exact float64 values, nearest, and a fixed point of rounding."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epigram.codec import representable_step
from epigram.codec.steps import step_value
from epigram.errors import ConfigError, FormatError


@given(st.floats(2.0**-127, 2.0**127))
def test_the_nearest_step_is_found(step: float) -> None:
    got = representable_step(step)
    octave = math.floor(math.log2(step))
    every = [
        Fraction(16 + m) * Fraction(2) ** (e - 4)
        for e in range(octave - 1, octave + 3)
        for m in range(16)
    ]
    assert Fraction(got) in every
    assert abs(Fraction(got) - Fraction(step)) == min(abs(s - Fraction(step)) for s in every)
    assert representable_step(got) == got
    assert abs(got / step - 1) <= 1 / 32


@pytest.mark.parametrize("step", [0.0, -1.0, math.nan, math.inf, 1e300, 5e-324])
def test_other_steps_are_refused(step: float) -> None:
    with pytest.raises(ConfigError, match="step size"):
        representable_step(step)


def test_an_exponent_out_of_range_is_refused() -> None:
    with pytest.raises(FormatError, match="exponent"):
        step_value(128, 0)
