"""All numbers of one small tensor, bit by bit under a mixture of contexts: kernels (see ``native``).

All that is learned lies in one array, ``m``: first what is looked at for one symbol or bit, weights (eight places a set), cells that
belong to the tensor alone and begin anew with each, then cells by context. Those of a magnitude come last and by its length, so what
short ones use stands at the front. A cell is logit * 2**24 + (P xor 32768) * 2**8 + N, so at first 0: the logit is made when the cell is
learned, not when it is needed. A mask, ``EVERY``, tells the compiler that a place is not negative, or it would look each time.
"""

from __future__ import annotations

from typing import Any

from epigram.codec.logits import CERTAIN, CLAMPED, EXP, STRETCH
from epigram.codec.native import inlined, lean
from epigram.codec.range_coder import ERROR, charge, code_bit, settle

LONGEST = 33
FOUND, WEIGHTS, SETS = 0, 8, 20
OWN = WEIGHTS + 8 * SETS
OWN_LOW, OWN_SIGNS, SIGNS_AT = OWN + 33, OWN + 169, OWN + 178
CELLS, LEVELS = SIGNS_AT + 2 * 144, 308
BLOCK = 8 * LEVELS
SIZE, EVERY = CELLS + (LONGEST + 1) * BLOCK, (1 << 17) - 1
LOW_SETS, SIGN_SETS = 14, 18
CONFIDENCE = [512 * n // (2 * n + 3) for n in range(256)]
RATE = [655360 // (10 * n + 16) for n in range(256)]


def _half_octaves() -> list[int]:
    out = [0, 1]
    for length in range(2, 14):
        out += [2 * length - 2] * (1 << length - 2) + [min(2 * length - 1, 24)] * (1 << length - 2)
    return out


HALF_OCTAVES = _half_octaves()
"""0, 1, then two for each bit length, at most 24."""


@inlined
def squash(logit: int) -> int:
    """The probability of log-odds, 16..65520."""
    return CLAMPED[max(-CERTAIN, min(logit, CERTAIN)) + CERTAIN]


@inlined
def decayed(exponent: int) -> int:
    """4096 * exp(-exponent / 256), at most 4095."""
    return min(4095, EXP[min(exponent, CERTAIN)] >> 18)


@inlined
def level(value: int) -> int:
    """Of a value that is not negative, 0..24."""
    return HALF_OCTAVES[min(value, 8191)]


@inlined
def octaves(size: int, mean: int) -> int:
    """By how many a size is above a quarter of the mean, 0..4: level(8 * size // (mean + 1)) // 2, undivided."""
    eight, unit = 8 * size, 2 * (mean + 1)
    above = 1 if eight >= unit else 0
    above += 1 if eight >= 2 * unit else 0
    above += 1 if eight >= 4 * unit else 0
    above += 1 if eight >= 8 * unit else 0
    return above


@inlined
def near(value: int, mean: int) -> int:
    """How large a number is beside the mean, and on which side: 0..8, 4 in the middle."""
    size = octaves(abs(value), mean)
    return 4 + size if value > 0 else 4 - size


@inlined
def sign3(value: int) -> int:
    """0, 1, 2 for what is negative, zero, positive."""
    return 2 if value > 0 else 0 if value < 0 else 1


@lean
def share(first: int, second: int, third: int) -> int:
    """First * second // third, whose product may need more than 63 bits."""
    if first < 1 << 31 and second < 1 << 31:
        return first * second // third
    whole, part, bit = 0, 0, 1 << 46
    while bit:
        whole, part = 2 * whole, 2 * part
        if first & bit:
            whole, part = whole + second // third, part + second % third
        whole, part = whole + part // third, part % third
        bit >>= 1
    return whole


@inlined
def mix(
    s: Any, data: Any, bits: Any, m: Any, first: int, many: int, weights: int, guide: int, given: int
) -> int:  # fmt: skip
    """One bit: ``guide`` is what the geometric law expects; the cells are ``many`` of those found, from ``first`` on."""
    weights &= EVERY
    total = guide * m[weights]
    for i in range(many):
        total += (m[first + m[FOUND + i] & EVERY] >> 24) * m[weights + 1 + i]
    p = squash(total >> 16)
    bit = code_bit(s, data, p << 8, given)
    charge(s, bits, (p if bit else 65536 - p) << 8)
    error, target = ((bit << 16) - p) * 4, 65535 if bit else 0
    m[weights] += guide * error + 65536 >> 17
    for i in range(many):
        place = first + m[FOUND + i] & EVERY
        cell = m[place]
        m[weights + 1 + i] += (cell >> 24) * error + 65536 >> 17
        seen, before = cell & 255, (cell >> 8 & 65535) ^ 32768
        expected = before + ((target - before) * RATE[seen] >> 16)
        seen = min(seen + 1, 255)
        logit = STRETCH[expected >> 4 & 4095] * CONFIDENCE[seen] >> 8
        m[place] = (logit << 24) + ((expected ^ 32768) << 8) + seen
    return bit


@inlined
def magnitude_levels(
    m: Any, row: int, col: int, around: int, mean: int, before: int, above: int, left: int
) -> None:
    """Where the six contexts of a magnitude have their cells, from the first of a kind of bit."""
    low, high = level(row), level(col)
    m[FOUND + 1], m[FOUND + 2], m[FOUND + 3] = low, 25 + high, 50 + level(4 * around)
    m[FOUND + 4], m[FOUND + 5] = 75 + level(mean), 100 + 12 * min(low, 11) + min(high, 11)
    m[FOUND + 6] = 244 + 16 * min(before, 3) + 4 * min(above, 3) + min(left, 3)


@lean
def code_mixed(
    s: Any, data: Any, bits: Any, m: Any, values: Any, sums: Any,
    rows: int, columns: int, rest: int, width: int, told: int,
) -> None:  # fmt: skip
    """The symbols of a tensor in C order; ``sums`` are its columns', zeros; ``told`` is about 16 times the mean magnitude."""
    for i in range(OWN, SIGNS_AT):
        m[i] = 0
    total, at, kind = 0, 0, 1 if rows > 1 else 0
    for row in range(rows):
        row_sum, row_count = 0, 0
        for column in range(columns):
            for place in range(rest):
                overall = (total * 16 + 4 * told) // (at + 4)
                by_row = (row_sum * 16 + 2 * overall) // (row_count + 2)
                by_column = (sums[column] * 16 + 2 * overall) // (row * rest + place + 2)
                mean = max(1, share(by_row, by_column, overall + 1))
                before = abs(values[at - 1]) if row_count else 0
                earlier = abs(values[at - 2]) if row_count > 1 else 0
                above = abs(values[at - columns * rest]) if row else 0
                beside = values[at - rest] if column else 0
                left, up, aslant, across = 0, 0, 0, 0
                around = 2 * before + earlier + abs(beside)
                if rest == 1:
                    left = beside
                    up = values[at - 2] if column > 1 else 0
                    beside = 0
                else:
                    inner = place % width
                    left = values[at - 1] if inner else 0
                    if place >= width:
                        up = values[at - width]
                        aslant = values[at - width - 1] if inner else 0
                        across = values[at - width + 1] if inner < width - 1 else 0
                    around = 2 * abs(left) + 2 * abs(up) + abs(aslant) + abs(across)
                magnitude_levels(
                    m, by_row, by_column, around, mean, before, above,
                    abs(values[at - rest]) if column else 0,
                )  # fmt: skip
                size = code_magnitude(s, data, bits, m, kind, mean, abs(values[at]))
                if size and not s[ERROR]:
                    sign_places(m, kind, mean, size, left, up, aslant, across, beside)
                    is_minus = 1 if values[at] < 0 else 0
                    weights = WEIGHTS + 8 * (SIGN_SETS + kind)
                    if mix(s, data, bits, m, 0, 6, weights, 0, is_minus):
                        values[at] = -size
                    else:
                        values[at] = size
                if s[ERROR]:
                    return
                row_sum, row_count, total = row_sum + size, row_count + 1, total + size
                sums[column] += size
                at += 1
    settle(s, bits)


@inlined
def length_guide(length: int, mean: int) -> int:
    """Log-odds that a magnitude is longer than so many bits, by the geometric law."""
    if length:
        return STRETCH[decayed((4096 << length - 1) // (mean + 8))]
    return STRETCH[min(4095, 8192 * mean // (2 * mean + 16) if mean < 1 << 40 else 4095)]


@inlined
def code_magnitude(s: Any, data: Any, bits: Any, m: Any, kind: int, mean: int, given: int) -> int:
    """Its bit length in unary, then the bits below the top one."""
    length, target, out = 0, 0, 0
    while given >> target:
        target += 1
    while length < LONGEST:
        first = CELLS + length * BLOCK + 4 * kind * LEVELS
        m[FOUND] = OWN + length - first
        weights, more = WEIGHTS + 8 * (7 * kind + min(length, 6)), 1 if length < target else 0
        if not mix(s, data, bits, m, first, 7, weights, length_guide(length, mean), more):
            break
        length, out = length + 1, 1
    for shift in range(length - 2, -1, -1):
        guide, bit = max(-((4096 << shift) // (mean + 8)), -2000), given >> shift & 1
        if out < 4:
            first = CELLS + length * BLOCK + (4 * kind + out) * LEVELS
            m[FOUND] = OWN_LOW + 4 * length + out - first
            weights = WEIGHTS + 8 * (LOW_SETS + 2 * kind + out // 2)
            bit = mix(s, data, bits, m, first, 7, weights, guide, bit)
        else:
            p = squash(guide)
            bit = code_bit(s, data, p << 8, bit)
            charge(s, bits, (p if bit else 65536 - p) << 8)
        out = 2 * out + bit
    return out


@inlined
def sign_places(
    m: Any, kind: int, mean: int, size: int, left: int, up: int, aslant: int, across: int, beside: int
) -> None:  # fmt: skip
    """The cells of a sign; that of the tensor's own is its last, and here the first."""
    slope = near(2 * left + 2 * up + aslant + across, mean)
    at, a, b = SIGNS_AT + 144 * kind, sign3(left), sign3(up)
    m[FOUND] = OWN_SIGNS + slope
    m[FOUND + 1] = at + 3 * a + b
    m[FOUND + 2] = at + 9 + 4 * slope + min(3, octaves(size, mean))
    m[FOUND + 3] = at + 45 + 3 * sign3(beside) + sign3(left + up)
    m[FOUND + 4] = at + 54 + 27 * a + 9 * b + 3 * sign3(aslant) + sign3(across)
    m[FOUND + 5] = at + 135 + near(up, mean)
