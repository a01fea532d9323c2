"""All numbers of one tensor under the scaled tables: kernels (see ``native``).

Numbers come and go in C order; ``buckets`` says the size of each cell of ``rest`` numbers. They are coded
bucket by bucket, those of one bucket in C order.
"""

from __future__ import annotations

from typing import Any

from epigram.codec.native import kernel, new
from epigram.codec.range_coder import ERROR
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
        places[bucket] += rest
        for i in range(rest):
            if is_back:
                numbers[at + i] = by_bucket[place + i]
            else:
                by_bucket[place + i] = numbers[at + i]
        at += rest


@kernel
def code_plain(
    s: Any, data: Any, bits: Any, bank: Any, buckets: Any, rest: int, numbers: Any
) -> None:
    """Numbers that no trellis made."""
    starts, count = starts_of(buckets, rest), len(numbers)
    first = buckets[0]
    if starts[first + 1] - starts[first] == count:
        signed(s, data, bits, bank, PLAIN, first, numbers, 0, count)
        return
    values = new(count)
    sort(buckets, rest, numbers, values, 0)
    for bucket in range(MOST):
        some = starts[bucket + 1] - starts[bucket]
        if some and not s[ERROR]:
            signed(s, data, bits, bank, PLAIN, bucket, values, starts[bucket], some)
    sort(buckets, rest, numbers, values, 1)


@kernel
def code_indices(
    s: Any, data: Any, bits: Any, bank: Any, buckets: Any, rest: int, numbers: Any, lanes: int
) -> None:
    """Integers that a trellis made; a writer gives their indices.

    Parities first: they give the states, so the grids, of ``lanes`` chains side by side.
    """
    starts, count = starts_of(buckets, rest), len(numbers)
    values, kinds, walked = new(count), new(count), new(count)
    sort(buckets, rest, numbers, values, 0)
    for i in range(count):
        kinds[i] = values[i] & 1
    for bucket in range(MOST):
        some = starts[bucket + 1] - starts[bucket]
        if some and not s[ERROR]:
            at = PARITIES + bucket // 2 * STRIDE
            if not bank[at + SUMS + 1]:
                guess(bank, at, PARITY, bucket)
            run(s, data, bits, bank, at, PARITY, kinds, starts[bucket], some)
    if s[ERROR]:
        return
    sort(buckets, rest, walked, kinds, 1)
    states = new(lanes)
    for start in range(0, count, lanes):
        for lane in range(lanes):
            parity, state = walked[start + lane], states[lane]
            walked[start + lane] = 2 * (state & 1) + parity
            states[lane] = MOVES[state] ^ 2 * parity
    sort(buckets, rest, walked, kinds, 0)
    for bucket in range(MOST):
        some = starts[bucket + 1] - starts[bucket]
        if some and not s[ERROR]:
            code_rest(s, data, bits, bank, bucket, kinds, values, starts[bucket], some)
    sort(buckets, rest, numbers, values, 1)
    for i in range(count):
        k, grid = numbers[i], walked[i] >> 1
        numbers[i] = 2 * k - grid if k > 0 else 2 * k + grid if k < 0 else 0


@kernel
def code_rest(
    s: Any, data: Any, bits: Any, bank: Any, bucket: int,
    kinds: Any, values: Any, start: int, count: int,
) -> None:  # fmt: skip
    """Indices of one size whose grids and parities are known: where they are large, both hardly matter."""
    half, end = max(0, bucket - 4), start + count
    if half >= SHIFTED:
        for i in range(start, end):
            values[i] >>= 1
        signed(s, data, bits, bank, GRIDS, half, values, start, count)
        for i in range(start, end):
            values[i] = 2 * values[i] + (kinds[i] & 1)
        return
    some = new(count)
    for which in range(4):
        size = 0
        for i in range(start, end):
            if kinds[i] == which:
                some[size] = values[i] >> 1
                if which & 1:
                    some[size] = abs(values[i]) - 1 | (1 if values[i] < 0 else 0)
                size += 1
        if not size or s[ERROR]:
            continue
        if which & 1:
            halves(s, data, bits, bank, GRIDS + which, half, some, 0, size)
        else:
            signed(s, data, bits, bank, GRIDS + which, half, some, 0, size)
        size = 0
        for i in range(start, end):
            if kinds[i] == which:
                u = some[size]
                if which & 1:
                    values[i] = -u if u & 1 else u + 1
                else:
                    values[i] = 2 * u
                size += 1
