"""The range coder of docs/format.md, a symbol at a time: kernels (see ``native``).

``s`` is the state: integers by the names below. ``data`` is what is read, words of 32 bits, or what is
written, symbols as start * 2**25 + width, which ``pack`` turns into words. ``bits`` is the ideal code length so far,
the most it may be, and the probability of symbols that are not in the first yet.
"""

from __future__ import annotations

from typing import Any

from epigram.codec.native import i64, inlined, lean, log2, u64

PRECISION = 24
TOTAL = 1 << PRECISION
LOW, RANGE, POSITION, ERROR, MODE, CODED = 0, 1, 2, 3, 4, 5
READ, WRITE, DRY = 0, 1, 2
BROKEN, LONG = 1, 2
_ONE, _RARE = 2.0**-PRECISION, 2.0**-900


@lean
def begin(s: Any, data: Any) -> None:
    """The first two words of what is read; ``LOW`` is the number less the coder's low."""
    first, second = 0, 0
    if len(data) > 0:
        first = data[0]
    if len(data) > 1:
        second = data[1]
    s[LOW] = u64(first) << u64(32) | u64(second)
    s[POSITION] = 2


@inlined
def advance(s: Any, data: Any, start: int, width: int) -> None:
    """Read on behind a symbol."""
    unit = u64(s[RANGE]) >> u64(24)
    low = u64(s[LOW]) - unit * u64(start)
    wide = unit * u64(width)
    if wide < u64(1 << 32):
        word = 0
        if s[POSITION] < len(data):
            word = data[s[POSITION]]
        s[POSITION] += 1
        low = u64(low << u64(32)) | u64(word)
        wide = wide << u64(32)
    s[LOW], s[RANGE] = low, wide


@lean
def pack(s: Any, words: Any, tape: Any, count: int) -> None:
    """Symbols of a tape as words; what is in ``s`` then is the low and the range behind them."""
    low, wide, position = u64(s[LOW]), u64(s[RANGE]), s[POSITION]
    for i in range(count):
        unit = wide >> u64(24)
        after = u64(low + unit * u64(tape[i] >> 25))
        if after < low:
            back = position - 1
            while words[back] == 0xFFFFFFFF:
                words[back] = 0
                back -= 1
            words[back] += 1
        low = after
        wide = unit * u64(tape[i] & 0x1FFFFFF)
        if wide < u64(1 << 32):
            words[position] = low >> u64(32)
            position += 1
            low = u64(low << u64(32))
            wide = wide << u64(32)
    s[LOW], s[RANGE], s[POSITION] = low, wide, position


@inlined
def account(s: Any, bits: Any, more: float, count: int) -> None:
    """Add to what has been coded; a stream cannot hold more than its length."""
    s[CODED] += count
    bits[0] += more
    if bits[0] > bits[1] and not s[ERROR]:
        s[ERROR] = LONG


@inlined
def settle(s: Any, bits: Any) -> None:
    """Account what was charged."""
    account(s, bits, -log2(bits[2]), 0)
    bits[2] = 1.0


@inlined
def charge(s: Any, bits: Any, width: int) -> None:
    """A symbol of this frequency, to be settled: a product takes less than a logarithm."""
    s[CODED] += 1
    bits[2] *= width * _ONE
    if bits[2] < _RARE:
        settle(s, bits)


@lean
def code_block(
    s: Any, data: Any, table: Any, at: int, size: int, values: Any, start: int, end: int, seen: Any
) -> None:
    """Symbols under a table whose running sums, from 0 on, stand at ``at``; not accounted.

    What a writer gives beyond the table is told by one of its last two symbols. The state is in variables within
    the loop, and no array is handed on: both would cost more than the arithmetic.
    """
    if s[MODE] == READ:
        low, wide, position = u64(s[LOW]), u64(s[RANGE]), s[POSITION]
        for i in range(start, end):
            unit = wide >> u64(24)
            if low >= unit << u64(24):
                s[ERROR] = BROKEN
                return
            symbol = 0
            while unit * u64(table[at + symbol + 1]) <= low:
                symbol += 1
            below = table[at + symbol]
            low -= unit * u64(below)
            wide = unit * u64(table[at + symbol + 1] - below)
            if wide < u64(1 << 32):
                word = 0
                if position < len(data):
                    word = data[position]
                position += 1
                low = u64(low << u64(32)) | u64(word)
                wide = wide << u64(32)
            values[i] = symbol
            seen[symbol] += 1
        s[LOW], s[RANGE], s[POSITION] = low, wide, position
        return
    last, position, writes = size - 2, s[POSITION], s[MODE] == WRITE
    for i in range(start, end):
        symbol = values[i]
        if symbol >= last:
            symbol = last + (symbol - last & 1)
        seen[symbol] += 1
        if writes:
            below = table[at + symbol]
            data[position] = below << 25 | table[at + symbol + 1] - below
            position += 1
    s[POSITION] = position


@inlined
def code_bit(s: Any, data: Any, one: int, given: int) -> int:
    """A bit that is 1 with frequency ``one``; the 0 comes first. Not accounted."""
    zero, bit = TOTAL - one, given
    if s[MODE] == READ:
        unit, low = u64(s[RANGE]) >> u64(24), u64(s[LOW])
        if low >= unit << u64(24):
            s[ERROR] = BROKEN
            bit = 0
        elif low >= unit * u64(zero):
            bit = 1
            advance(s, data, zero, one)
        else:
            bit = 0
            advance(s, data, 0, zero)
    elif s[MODE] == WRITE:
        data[s[POSITION]] = zero << 25 | one if bit else zero
        s[POSITION] += 1
    return bit


@lean
def code_flag(s: Any, data: Any, bits: Any, zeros: int, ones: int, given: int) -> int:
    """A bit that was so often 0 and 1 before; -1 where it cannot be read."""
    one = ((2 * ones + 1) << PRECISION) // (2 * (zeros + ones) + 2)
    one = max(1, min(one, TOTAL - 1))
    bit = code_bit(s, data, one, given)
    account(s, bits, PRECISION - log2(one if bit else TOTAL - one), 1)
    return -1 if s[ERROR] else bit


@inlined
def code_even(s: Any, data: Any, size: int, given: int) -> int:
    """One of ``size`` equally likely values; not accounted."""
    share, value = TOTAL // size, given
    if s[MODE] == READ:
        unit, low = u64(s[RANGE]) >> u64(24), u64(s[LOW])
        if low >= unit << u64(24):
            s[ERROR] = BROKEN
            return 0
        value = min(i64(low // (unit * u64(share))), size - 1)
    start = value * share
    width = TOTAL - start if value == size - 1 else share
    if s[MODE] == READ:
        advance(s, data, start, width)
    elif s[MODE] == WRITE:
        data[s[POSITION]] = start << 25 | width
        s[POSITION] += 1
    return value


@lean
def code_one(s: Any, data: Any, bits: Any, size: int, given: int) -> int:
    """One of them, accounted; -1 where it cannot be read."""
    account(s, bits, PRECISION - log2(TOTAL // size), 1)
    value = -1
    if not s[ERROR]:
        value = code_even(s, data, size, given)
    return -1 if s[ERROR] else value


@lean
def code_evens(s: Any, data: Any, bits: Any, size: int, values: Any, count: int) -> None:
    """So many of them; refused before they are read where the stream cannot hold them."""
    if size == 1:
        for i in range(count):
            values[i] = 0
        return
    account(s, bits, count * (PRECISION - log2(TOTAL // size)), count)
    for i in range(count):
        if s[ERROR]:
            return
        values[i] = code_even(s, data, size, values[i])


@lean
def code_table(
    s: Any, data: Any, bits: Any, table: Any, size: int, seen: Any, values: Any, count: int
) -> None:
    """Symbols under one table, accounted; ``seen`` says how often each occurs."""
    code_block(s, data, table, 0, size, values, 0, count, seen)
    spent = 0.0
    for i in range(size):
        if seen[i]:
            spent += seen[i] * (PRECISION - log2(table[i + 1] - table[i]))
    account(s, bits, spent, count)
