"""Numbers under the tables of a file, which learn: kernels (see ``native``).

A table lies in ``bank`` at ``at``: symbols seen, symbols since it was made, counts, running sums of frequencies.
Which tables there are is told in ``bank.py``.
"""

from __future__ import annotations

from typing import Any

from epigram.codec.escapes import escapes, wide
from epigram.codec.native import i64, kernel, lean, log2, new
from epigram.codec.range_coder import ERROR, PRECISION, TOTAL, account, code_block

QUARTERS = [1024, 1218, 1448, 1722]
ZERO, NO_ZERO, PARITY = 0, 1, 2
SIZES = [49, 50, 2]
SEEN, FRESH, COUNTS, SUMS, STRIDE = 0, 1, 2, 52, 104
KINDS, BUCKETS, CONTEXTS = 2, 20, 7
PARITIES = CONTEXTS * KINDS * BUCKETS * STRIDE
BANK = PARITIES + 74 * STRIDE
SHIFTED, NODES, PRIOR, UNIT, FIRST_BLOCK, MEMORY = 36, 24, 16, 256, 64, 1 << 13


@kernel
def mean_of(bucket: int) -> int:
    """1024 times the mean magnitude that a bucket stands for, rounded down: 2**((bucket - 24) / 4)."""
    return (QUARTERS[bucket % 4] << bucket // 4) >> 6


@lean
def refresh(bank: Any, at: int, size: int) -> None:
    """Frequencies in the proportions of the counts: count * (2**24 - n) div their sum, plus 1; the rest is the first's."""
    total, left = 0, TOTAL
    for i in range(size):
        total += bank[at + COUNTS + i]
    for i in range(size - 1, 0, -1):
        bank[at + SUMS + i + 1] = left
        left -= bank[at + COUNTS + i] * (TOTAL - size) // total + 1
    bank[at + SUMS + 1], bank[at + SUMS] = left, 0


@kernel
def guess(bank: Any, at: int, kind: int, bucket: int) -> None:
    """Counts of a table that has seen nothing, in 256ths of a symbol: geometric, of the bucket's mean."""
    if kind == PARITY:
        bank[at + COUNTS] = bank[at + COUNTS + 1] = 64
        refresh(bank, at, 2)
        return
    mean, weights, total = mean_of(bucket), new(NODES + 1), 0
    weights[0] = 1 << 20
    for i in range(1, NODES):
        weights[i] = weights[i - 1] * mean // (mean + 1024)
    weights[NODES] = weights[NODES - 1] * mean // 1024
    if kind == ZERO:
        weights[0] = weights[0] * (mean + 1024) // (2 * mean + 1024)
    for weight in weights:
        total += weight
    for i in range(NODES + 1):
        each, place = weights[i] * (PRIOR * UNIT // 2) // total + 1, at + COUNTS + 2 * i - 1 + kind
        bank[place + 1] = each
        if i or kind:
            bank[place] = each
        else:
            bank[place + 1] = 2 * each
    refresh(bank, at, SIZES[kind])


@lean
def learn(bank: Any, at: int, kind: int, seen: Any, count: int) -> None:
    """Count symbols, both signs of a magnitude alike; old ones weigh less once there are many."""
    size, counts = SIZES[kind], at + COUNTS
    bank[at + SEEN] += count
    bank[at + FRESH] += count
    first = 0
    if kind == ZERO:
        bank[counts] += seen[0] * UNIT
        first = 1
    if kind == PARITY:
        bank[counts] += seen[0] * UNIT
        bank[counts + 1] += seen[1] * UNIT
    else:
        for i in range(first, size, 2):
            more = (seen[i] + seen[i + 1]) * (UNIT // 2)
            bank[counts + i] += more
            bank[counts + i + 1] += more
    while bank[at + SEEN] > MEMORY:
        for i in range(size):
            bank[counts + i] -= bank[counts + i] >> 1
        bank[at + SEEN] >>= 1
    if 8 * bank[at + FRESH] >= bank[at + SEEN]:
        refresh(bank, at, size)
        bank[at + FRESH] = 0


@kernel
def run(
    s: Any, data: Any, bits: Any, bank: Any, at: int, kind: int, values: Any, start: int, count: int
) -> int:
    """Symbols block by block under a table that learns them; how many were escapes."""
    size, done, long = SIZES[kind], 0, 0
    last, seen = size - 2, new(size)
    while done < count and not s[ERROR]:
        block, spent = min(max(FIRST_BLOCK, 2 * bank[at + SEEN]), count - done), 0.0
        for i in range(size):
            seen[i] = 0
        first = start + done
        code_block(s, data, bank, at + SUMS, size, values, first, first + block, seen)
        for i in range(size):
            if seen[i]:
                width = bank[at + SUMS + i + 1] - bank[at + SUMS + i]
                spent += seen[i] * (PRECISION - log2(width))
        account(s, bits, spent, block)
        learn(bank, at, kind, seen, block)
        long += seen[last] + seen[last + 1]
        done += block
    return long


@kernel
def by_table(
    s: Any, data: Any, bits: Any, bank: Any, context: int, kind: int, bucket: int,
    values: Any, start: int, count: int,
) -> None:  # fmt: skip
    """Symbols of any size under the table of their context, kind and bucket."""
    at = ((context * KINDS + kind) * BUCKETS + bucket // 2) * STRIDE
    if not bank[at + SUMS + 1]:
        guess(bank, at, kind, bucket)
    long = run(s, data, bits, bank, at, kind, values, start, count)
    if long and not s[ERROR]:
        escapes(s, data, bits, values, start, count, SIZES[kind] - 2, long)


@kernel
def shift_of(bucket: int) -> int:
    """How many low bits of numbers of this size are told as they are."""
    return max(0, (bucket - SHIFTED) // 4 + 1)


@kernel
def signed(
    s: Any, data: Any, bits: Any, bank: Any, context: int, bucket: int,
    values: Any, start: int, count: int,
) -> None:  # fmt: skip
    """Integers of either sign."""
    shift, end = shift_of(bucket), start + count
    low = new(count if shift else 0)
    for i in range(start, end):
        value = values[i]
        if not shift:
            values[i] = 2 * value - 1 if value > 0 else -2 * value
            continue
        high, low[i - start] = value >> shift, value & (1 << shift) - 1
        values[i] = 2 * high if high >= 0 else 2 * (-1 - high) + 1
    kind = i64(NO_ZERO if shift else ZERO)
    by_table(s, data, bits, bank, context, kind, bucket - 4 * shift, values, start, count)
    if shift and not s[ERROR]:
        wide(s, data, bits, shift, low, count)
    for i in range(start, end):
        u = values[i]
        if not shift:
            values[i] = u + 1 >> 1 if u & 1 else -(u >> 1)
        else:
            high = -1 - (u >> 1) if u & 1 else u >> 1
            values[i] = (high << shift) + low[i - start]


@kernel
def halves(
    s: Any, data: Any, bits: Any, bank: Any, context: int, bucket: int,
    values: Any, start: int, count: int,
) -> None:  # fmt: skip
    """Magnitudes >= 0 that all have a sign, as 2 * magnitude + (1 if negative)."""
    shift = shift_of(bucket)
    low = new(count if shift else 0)
    if shift:
        for i in range(start, start + count):
            low[i - start] = values[i] >> 1 & (1 << shift) - 1
            values[i] = values[i] >> shift + 1 << 1 | values[i] & 1
    by_table(s, data, bits, bank, context, i64(NO_ZERO), bucket - 4 * shift, values, start, count)
    if shift and not s[ERROR]:
        wide(s, data, bits, shift, low, count)
        for i in range(start, start + count):
            u = values[i]
            values[i] = u >> 1 << shift + 1 | low[i - start] << 1 | u & 1
