"""Tables that the tensors of a file share, one for each size of number.

A number whose typical magnitude is known (the bucket: a quarter of an octave) is coded under the table of
its bucket. Tables start from a geometric guess and learn from what they coded, in this tensor and
in those before it, so a tensor that comes late pays almost nothing for its model.
"""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
from numpy.typing import NDArray

from epigram.codec.adaptive import LENGTHS, code_adaptive, uniform_bits
from epigram.codec.coder import Coder, Frequencies, Symbols

QUARTERS = (1024, 1218, 1448, 1722)
ONE = 24
LARGEST = 147
SHIFTED = 36
NODES = 24
PRIOR = 16
FIRST_BLOCK = 64
MEMORY = 1 << 13
_UNIT = 256
_GUESS_BITS = 20

ZERO, NO_ZERO = 0, 1

Integers = NDArray[np.int64]


def mean_of(bucket: int) -> int:
    """1024 times the mean magnitude that a bucket stands for, rounded down: 2**((bucket - 24) / 4)."""
    octave, quarter = divmod(bucket, 4)
    return QUARTERS[quarter] << octave >> ONE // 4


@cache
def guess(bucket: int, kind: int) -> Integers:
    """Pseudo-counts of a table that has seen nothing, in 256ths of a symbol.

    Kind 0 is of signed numbers in the order 0, 1, -1, 2, -2 ...; kind 1 of magnitudes with a sign each,
    0, -0, 1, -1 ...; the last two of both are escapes.
    """
    mean = mean_of(bucket)
    weights = [1 << _GUESS_BITS]
    for _ in range(NODES - 1):
        weights.append(weights[-1] * mean // (mean + 1024))
    weights.append(weights[-1] * mean // 1024)
    if kind == ZERO:
        weights[0] = weights[0] * (mean + 1024) // (2 * mean + 1024)
    total = sum(weights)
    each = [weight * (PRIOR * _UNIT // 2) // total + 1 for weight in weights]
    out = np.repeat(np.array(each, dtype=np.int64), 2)
    if kind == ZERO:
        out[1] *= 2
        out = out[1:]
    out.flags.writeable = False
    return out


class Table:
    """Counts of one alphabet on top of a guess; both signs of a magnitude are counted alike.

    The frequencies are made anew when an eighth of what they know has been added, not after each block.
    """

    __slots__ = ("_counts", "_fresh", "_kind", "frequencies", "last", "seen")

    def __init__(self, first: Integers, kind: int) -> None:
        self._counts, self._kind, self.seen, self._fresh = first.copy(), kind, 0, 0
        self.last = len(first) - 2
        self.frequencies = Frequencies(self._counts)

    def fork(self) -> Table:
        """One that knows as much and learns apart."""
        out = copy.copy(self)
        out.part()
        return out

    def part(self) -> None:
        """Count apart from whatever this is a copy of."""
        self._counts = self._counts.copy()

    def learn(self, seen: Integers, count: int) -> None:
        """Count symbols; old ones weigh less once there are many."""
        self.seen += count
        self._fresh += count
        if self._kind == ZERO:
            pairs = seen[1:]
            self._counts[0] += seen[0] * _UNIT
            self._counts[1:] += np.repeat(pairs[::2] + pairs[1::2], 2) * (_UNIT // 2)
        elif self._kind == NO_ZERO:
            self._counts += np.repeat(seen[::2] + seen[1::2], 2) * (_UNIT // 2)
        else:
            self._counts += seen * _UNIT
        while self.seen > MEMORY:
            self._counts -= self._counts >> 1
            self.seen >>= 1
        if 8 * self._fresh >= self.seen:
            self.frequencies = Frequencies(self._counts)
            self._fresh = 0


class Bank:
    """The tables of a file, made when they are first needed."""

    def __init__(self) -> None:
        self._tables: dict[tuple[int, int, int], Table] = {}

    def fork(self) -> Bank:
        """One that knows as much and learns apart."""
        out = Bank()
        out._tables = {key: table.fork() for key, table in self._tables.items()}
        return out

    def table(self, context: int, kind: int, bucket: int) -> Table:
        """The table of numbers of one kind and size in one context."""
        key = (context, kind, bucket)
        found = self._tables.get(key)
        if found is None:
            found = self._tables[key] = Table(guess(bucket, kind), kind)
        return found

    def signed(
        self, coder: Coder, context: int, bucket: int, values: Integers | None, count: int
    ) -> Integers:
        """Integers of either sign and of a typical magnitude."""
        shift, bucket = _shift(bucket)
        if not shift:
            given = None if values is None else np.where(values > 0, 2 * values - 1, -2 * values)
            out = self._code(coder, self.table(context, ZERO, bucket), given, count)
            return np.where(out & 1, out + 1 >> 1, -(out >> 1))
        given = None
        if values is not None:
            high = values >> shift
            given = 2 * (high ^ (high >> 63)) + (high < 0)
        out = self._code(coder, self.table(context, NO_ZERO, bucket), given, count)
        high = (out >> 1) ^ -(out & 1)
        return high << shift | uniform_bits(coder, shift, values, count)

    def halves(
        self, coder: Coder, context: int, bucket: int, values: Integers | None, count: int
    ) -> Integers:
        """Magnitudes >= 0 that all have a sign, as 2 * magnitude + (1 if negative)."""
        shift, bucket = _shift(bucket)
        given = values
        if values is not None and shift:
            given = values >> shift + 1 << 1 | values & 1
        out = self._code(coder, self.table(context, NO_ZERO, bucket), given, count)
        if not shift:
            return out
        low = uniform_bits(coder, shift, None if values is None else values >> 1, count)
        return out >> 1 << shift + 1 | low << 1 | out & 1

    def _code(self, coder: Coder, table: Table, values: Integers | None, count: int) -> Integers:
        last, short = table.last, None
        if values is not None:
            short = np.where(values < last, values, last + (values - last & 1)).astype(np.int32)
        narrow, long = code_with_table(coder, table, short, count)
        out = narrow.astype(np.int64)
        if long:
            escaped = np.flatnonzero(narrow >= last)
            beyond = None if values is None else values[escaped] - last >> 1
            out[escaped] += 2 * code_escapes(coder, beyond, len(escaped))
        return out


def code_with_table(
    coder: Coder, table: Table, values: Symbols | None, count: int
) -> tuple[Symbols, int]:
    """Symbols under a table that learns them, block by block, and how many of the last two there are."""
    parts, done, long = [], 0, 0
    while done < count:
        size = min(max(FIRST_BLOCK, 2 * table.seen), count - done)
        given = None if values is None else values[done : done + size]
        block, seen = coder.block(table.frequencies, given, size)
        table.learn(seen, size)
        parts.append(block)
        long += int(seen[table.last :].sum())
        done += size
    return (parts[0] if len(parts) == 1 else np.concatenate(parts)), long


def code_escapes(coder: Coder, values: Integers | None, count: int) -> Integers:
    """Integers >= 0: bit length of value + 1 under an adaptive alphabet, then the bits below it."""
    lengths = None
    if values is not None:
        lengths = np.frexp((values + 1).astype(np.float64))[1].astype(np.int32) - 1
    lengths = code_adaptive(coder, LENGTHS, lengths, count)
    out = (np.int64(1) << lengths.astype(np.int64)) - 1
    for length in np.unique(lengths).tolist():
        where = np.flatnonzero(lengths == length)
        given = None if values is None else values[where] + 1 - (1 << length)
        out[where] += uniform_bits(coder, length, given, len(where))
    return out


def _shift(bucket: int) -> tuple[int, int]:
    shift = max(0, (bucket - SHIFTED) // 4 + 1)
    return shift, bucket - 4 * shift
