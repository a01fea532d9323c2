"""All numbers of one tensor under the scaled tables: kernels (see ``native``).

Numbers come and go in C order; ``buckets`` says the size of each cell of ``rest`` numbers. They are coded
bucket by bucket, those of one bucket in C order.
"""

from __future__ import annotations

from typing import Any

from epigram.codec.native import i64, kernel, new
from epigram.codec.range_coder import ERROR, MODE, READ
from epigram.codec.tables import (
    PARITIES,
    PARITY,
    SHIFTED,
    STRIDE,
    SUMS,
    guess,
    halves,
    run,
    signed,
)

PLAIN, GRIDS, MOST = 0, 3, 148
MOVES = [0, 7, 1, 6, 2, 5, 3, 4]


@kernel
def starts_of(buckets: Any, rest: int) -> Any:
    """Where the numbers of each bucket begin once they are sorted."""
    starts = new(MOST + 1)
    for bucket in buckets:
        starts[bucket + 1] += rest
    for bucket in range(MOST):
        starts[bucket + 1] += starts[bucket]
    return starts


@kernel
def sort(buckets: Any, rest: int, numbers: Any, by_bucket: Any, is_back: int) -> None:
    """From C order to that of the buckets, or back."""
    places, at = starts_of(buckets, rest), 0
    for bucket in buckets:
        place = places[bucket]
        places[bucket] = place + rest
        if is_back:
            for i in range(rest):
                numbers[at + i] = by_bucket[place + i]
        else:
            for i in range(rest):
                by_bucket[place + i] = numbers[at + i]
        at += rest


@kernel
def code_plain(
    s: Any, data: Any, bits: Any, bank: Any, buckets: Any, rest: int, numbers: Any
) -> None:
    """Numbers that no trellis made."""
    starts, count = starts_of(buckets, rest), len(numbers)
    first = i64(buckets[0])
    if starts[first + 1] - starts[first] == count:
        signed(s, data, bits, bank, i64(PLAIN), first, numbers, i64(0), count)
        return
    values = new(count)
    if s[MODE] != READ:
        sort(buckets, rest, numbers, values, 0)
    for bucket in range(MOST):
        some = starts[bucket + 1] - starts[bucket]
        if some and not s[ERROR]:
            signed(s, data, bits, bank, i64(PLAIN), bucket, values, starts[bucket], some)
    sort(buckets, rest, numbers, values, 1)


@kernel
def code_indices(
    s: Any, data: Any, bits: Any, bank: Any, buckets: Any, rest: int, numbers: Any, lanes: int
) -> None:
    """Integers that a trellis made; a writer gives their indices.

    Parities first: they give the states, so the grids, of ``lanes`` chains side by side.
    """
    starts, count = starts_of(buckets, rest), len(numbers)
    values, kinds = new(count), new(count)
    if s[MODE] != READ:
        sort(buckets, rest, numbers, values, 0)
        for i in range(count):
            kinds[i] = values[i] & 1
    for bucket in range(MOST):
        some = starts[bucket + 1] - starts[bucket]
        if some and not s[ERROR]:
            at = PARITIES + bucket // 2 * STRIDE
            if not bank[at + SUMS + 1]:
                guess(bank, at, PARITY, bucket)
            run(s, data, bits, bank, at, i64(PARITY), kinds, starts[bucket], some)
    if s[ERROR]:
        return
    sort(buckets, rest, numbers, kinds, 1)
    for lane in range(lanes):
        state = 0
        for i in range(lane, count, lanes):
            parity = numbers[i]
            numbers[i] = 2 * (state & 1) + parity
            state = MOVES[state] ^ 2 * parity
    sort(buckets, rest, numbers, kinds, 0)
    for bucket in range(MOST):
        some = starts[bucket + 1] - starts[bucket]
        if some and not s[ERROR]:
            code_rest(s, data, bits, bank, bucket, kinds, values, starts[bucket], some, numbers)
    for i in range(count):
        k, grid = values[i], kinds[i] >> 1
        values[i] = 2 * k + (grid if k < 0 else 0) - (grid if k > 0 else 0)
    sort(buckets, rest, numbers, values, 1)


@kernel
def code_rest(
    s: Any, data: Any, bits: Any, bank: Any, bucket: int,
    kinds: Any, values: Any, start: int, count: int, some: Any,
) -> None:  # fmt: skip
    """Indices of one size whose grids and parities are known: where they are large, both hardly matter.

    ``some`` is room for as many.
    """
    half, end = max(0, bucket - 4), start + count
    if half >= SHIFTED:
        for i in range(start, end):
            values[i] >>= 1
        signed(s, data, bits, bank, i64(GRIDS), half, values, start, count)
        for i in range(start, end):
            values[i] = 2 * values[i] + (kinds[i] & 1)
        return
    places = new(5)
    for i in range(start, end):
        places[kinds[i] + 1] += 1
    for which in range(4):
        places[which + 1] += places[which]
    for i in range(start, end):
        k, which = values[i], kinds[i]
        is_minus = 1 if k < 0 else 0
        some[places[which]] = abs(k) - 1 | is_minus if which & 1 else k >> 1
        places[which] += 1
    for which in range(4):
        first = places[which - 1] if which else 0
        size = places[which] - first
        if size and which & 1 and not s[ERROR]:
            halves(s, data, bits, bank, GRIDS + which, half, some, first, size)
        elif size and not s[ERROR]:
            signed(s, data, bits, bank, GRIDS + which, half, some, first, size)
    for which in range(3, 0, -1):
        places[which] = places[which - 1]
    places[0] = 0
    for i in range(start, end):
        which = kinds[i]
        u = some[places[which]]
        k = -u if u & 1 else u + 1
        values[i] = k if which & 1 else 2 * u
        places[which] += 1
