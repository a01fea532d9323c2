"""The union-find on labels, against sets merged one pair at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from epigram.structure.labels import INPUT, OPAQUE, Cause, LabelSpace

CAUSE = Cause("test", "here", "because")


def slowly_merged(count: int, pairs: list[tuple[int, int]]) -> list[set[int]]:
    classes = [{i} for i in range(count)]
    for a, b in pairs:
        together = classes[a] | classes[b]
        for i in together:
            classes[i] = together
    return classes


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30), st.integers(1, 5))
def test_classes_are_those_of_sets_merged_by_hand(
    pairs: list[tuple[int, int]], at_once: int
) -> None:
    space = LabelSpace()
    labels = space.fresh(20)
    for start in range(0, len(pairs), at_once):
        some = torch.tensor(pairs[start : start + at_once]).reshape(-1, 2)
        space.unite(labels[some[:, 0]], labels[some[:, 1]], CAUSE)
    roots = space.roots(labels)
    expected = slowly_merged(20, pairs)
    assert all((roots[a] == roots[b]) == (b in expected[a]) for a in range(20) for b in range(20))


def test_special_labels_pin_without_merging() -> None:
    space = LabelSpace()
    labels = space.fresh(4)
    space.unite(labels[:2], torch.tensor([OPAQUE, INPUT]), CAUSE)
    assert len(set(space.roots(labels).tolist())) == 4
    pins = space.pins()
    assert [int(root) in pins for root in space.roots(labels)] == [True, True, False, False]


def test_a_pin_holds_for_all_that_is_united_with_it_later() -> None:
    space = LabelSpace()
    labels = space.fresh(3)
    space.pin(labels[2:], CAUSE)
    space.unite(labels[1:2], labels[2:], CAUSE)
    assert [int(root) in space.pins() for root in space.roots(labels)] == [False, True, True]


def test_the_first_cause_counts_unless_a_later_one_is_natural() -> None:
    space = LabelSpace()
    labels = space.fresh(4)
    first, second = Cause("a", "m", "first"), Cause("b", "m", "second")
    natural = Cause("output", "forward", "it is the output", natural=True)
    space.pin(labels[:2], first)
    space.pin(labels[:3], second)
    space.pin(labels[1:2], natural)
    space.pin(labels[1:2], Cause("c", "m", "later", natural=True))
    pins, roots = space.pins(), space.roots(labels)
    assert [pins[int(root)] for root in roots[:3]] == [first, natural, second]
    np.testing.assert_array_equal(pins.free(roots), [False, False, False, True])
    with pytest.raises(KeyError):
        pins[int(roots[3])]


def test_there_is_room_for_any_number_of_labels() -> None:
    space = LabelSpace()
    first = space.fresh(5)
    space.unite(first[:1], first[4:], CAUSE)
    more = [space.fresh(count) for count in (3000, 70_000, 1)]
    space.unite(first[4:], more[2], CAUSE)
    assert space.roots(more[2]).tolist() == space.roots(first[:1]).tolist()
    assert len(np.unique(space.roots(torch.cat([first, *more])))) == 73_006 - 2


def test_repeated_labels_vary_along_their_own_axis_only() -> None:
    space = LabelSpace()
    labels = space.fresh(3).reshape(1, 3, 1).expand(4, 3, 5)
    assert space.varying(labels) == [1]
    assert space.varying(labels.contiguous()) == [1]
    np.testing.assert_array_equal(space.collapse(labels, 1, CAUSE), labels[0, :, 0])
    space.tie(labels, [1], CAUSE)
    assert space.varying(labels) == []
