"""Small shapes, given dense ones: an axis that is as expected costs a fraction of a bit.

Expected is: reduced as the axis with the largest dense size seen before that divides this one was
(a channel count met again, or channels times positions behind a flatten), else not reduced at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from zlib import crc32

import numpy as np

from epigram.codec.coder import Coder, Flag
from epigram.codec.limits import Limits
from epigram.errors import FormatError

Shape = tuple[int, ...]
FINGERPRINT_BITS = 12
REMEMBERED = 64
MOST_DENSE = 1 << 48
"""Values of a dense tensor, at most, sizes of 0 apart; numpy has no shape of 2**63 bytes even where a size is 0."""


class ShapeStates:
    """Sizes seen so far in the file, and how often an axis was as expected."""

    def __init__(self) -> None:
        self.reduced: dict[int, int] = {}
        self.first_axis, self.other_axis = Flag(), Flag(zeros=4)

    def remember(self, dense: int, small: int) -> None:
        """An axis was met; the sizes met longest ago are forgotten."""
        self.reduced.pop(dense, None)
        self.reduced[dense] = small
        if len(self.reduced) > REMEMBERED:
            del self.reduced[next(iter(self.reduced))]

    def expected(self, dense: int) -> int:
        """The small size that ``dense`` is likely to have."""
        divisors = [d for d in self.reduced if d > 1 and dense % d == 0]
        if dense == 0 or not divisors:
            return dense
        best = max(divisors)
        return self.reduced[best] * (dense // best)


def code_shape(
    coder: Coder, states: ShapeStates, name: str, dense: Shape, small: Shape | None
) -> Shape:
    """The small shape of one tensor whose dense shape both sides know."""
    out = []
    for axis, size in enumerate(dense):
        expected = states.expected(size)
        flag = states.first_axis if axis == 0 and len(dense) > 1 else states.other_axis
        given = None if small is None else small[axis]
        if coder.flag(flag, None if given is None else int(given != expected)):
            given = coder.below(size + 1, given)
        else:
            given = expected
        if given > size:
            raise FormatError(f"{name}: got axis {axis} of {given}, expected at most {size}")
        states.remember(size, given)
        out.append(given)
    return tuple(out)


def check_elements(limits: Limits, shapes: Mapping[str, Shape]) -> None:
    """Refuse, before anything is allocated, tensors that are too many, too deep or too large.

    A size of 0 hides no others: a shape without values is taken by those it has.

    Raises:
        FormatError: a cap is exceeded; the message names it.
    """
    limits.check("tensors", len(shapes), "max_tensors")
    total = 0
    for name, shape in shapes.items():
        limits.check(f"{name}: axes", len(shape), "max_rank")
        limits.check(f"{name}: sizes but for 0, multiplied", _but_for_0(shape), "max_elements")
        total += math.prod(shape)
        limits.check(f"values up to {name}", total, "max_elements")


def check_dense(dense: Mapping[str, Shape]) -> None:
    """Refuse dense shapes that no array has; these are not taken memory for, and have no other cap.

    Raises:
        FormatError: the message names the tensor.
    """
    for name, shape in dense.items():
        if _but_for_0(shape) > MOST_DENSE:
            raise FormatError(
                f"{name}: got the dense shape {shape}, expected sizes whose product, but for 0, is at most "
                f"{MOST_DENSE}; the file is damaged, or made to harm"
            )


def _but_for_0(shape: Shape) -> int:
    return math.prod(size for size in shape if size)


def code_fingerprint(coder: Coder, dense: Mapping[str, Shape], *, writing: bool) -> None:
    """12 bits of all dense shapes and one bit of each: a wrong class is told, not decoded.

    Raises:
        FormatError: the reader's dense shapes are not the writer's.
    """
    whole, parities = _fingerprint(dense)
    got = coder.below(1 << FINGERPRINT_BITS, whole if writing else None)
    given = np.array(parities, dtype=np.int32) if writing else None
    bits = coder.uniform(2, given, len(parities)).tolist()
    for (name, shape), bit, expected in zip(dense.items(), bits, parities, strict=True):
        if bit != expected:
            raise FormatError(
                f"dense_shapes: got {name} {shape}, but the file was written for a network whose "
                f"tensor at this place has another shape; pass the class the file was made from"
            )
    if got != whole:
        shapes = ", ".join(f"{name} {shape}" for name, shape in dense.items())
        raise FormatError(
            f"dense_shapes: at least one shape differs from those the file was written for: "
            f"{shapes}; pass the class the file was made from"
        )


def _fingerprint(dense: Mapping[str, Shape]) -> tuple[int, list[int]]:
    texts = ["x".join(map(str, shape)) for shape in dense.values()]
    whole = crc32(";".join(texts).encode()) & ((1 << FINGERPRINT_BITS) - 1)
    return whole, [crc32(text.encode()).bit_count() & 1 for text in texts]
