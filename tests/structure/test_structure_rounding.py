"""Counts rounded up: a multiple or all, and only the least removable come back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epigram.errors import ConfigError
from epigram.structure import round_masks


@given(
    st.lists(st.tuples(st.booleans(), st.floats(-9, 9)), min_size=1, max_size=40),
    st.integers(1, 12),
)
def test_the_least_removable_come_back_up_to_a_multiple(
    units: list[tuple[bool, float]], multiple: int
) -> None:
    mask, order = np.array([u[0] for u in units]), np.array([u[1] for u in units])
    rounded = round_masks({"a": mask}, {"a": order}, multiple)["a"]
    count = int(rounded.sum())
    assert (rounded | ~mask).all()
    assert count % multiple == 0 or count == len(units)
    assert count - int(mask.sum()) < multiple
    back, gone = order[rounded & ~mask], order[~rounded]
    assert not len(back) or not len(gone) or back.max() <= gone.min()


def test_groups_without_a_multiple_stay_as_they_are_and_nonsense_is_refused() -> None:
    keep = {"a": np.arange(6) < 3, "b": np.arange(6) < 3}
    order = {"a": np.arange(6), "b": np.arange(6)}
    rounded = round_masks(keep, order, {"a": 4})
    assert [int(rounded[name].sum()) for name in "ab"] == [4, 3]
    with pytest.raises(ConfigError, match="at least 1"):
        round_masks(keep, order, 0)
    with pytest.raises(ConfigError, match="order of 'b'"):
        round_masks(keep, {"a": np.arange(6)}, 2)
