"""All numbers of one small tensor, bit by bit under a mixture of contexts: kernels (see ``native``).

All that is learned lies in one array, ``m``: an array more is a cost of every call. The cells of a context stand side
by side, by kind of bit and level; a cell is (P - 32768) * 256 + N, so at first 0. Cells that belong to the tensor alone (from ``OWN``
on) begin anew with each. Weights have eight places a set. Behind them, what is looked at for one symbol or bit.
"""

from __future__ import annotations

from typing import Any

from epigram.codec.logits import CERTAIN, EXP, SQUASH, STRETCH
from epigram.codec.native import kernel, new
from epigram.codec.range_coder import ERROR, code_bit

LONGEST = 33
LEVELS, LENGTHS_AT, LOW_AT = 308, 0, 2 * 33 * 308
SIGNS_AT = LOW_AT + 2 * 34 * 4 * 308
OWN = SIGNS_AT + 2 * 144
OWN_LOW, OWN_SIGNS, WEIGHTS = OWN + 33, OWN + 169, OWN + 178
PLACES = WEIGHTS + 20 * 8
LOGITS, FOUND, SIZE = PLACES + 7, PLACES + 15, PLACES + 21
LOW_SETS, SIGN_SETS = 14, 18
CONFIDENCE = [512 * n // (2 * n + 3) for n in range(256)]
RATE = [655360 // (10 * n + 16) for n in range(256)]


@kernel
def squash(logit: int) -> int:
    """The probability of log-odds, 16..65520."""
    if logit >= CERTAIN:
        return 65520
    if logit <= -CERTAIN:
        return 16
    return max(16, min(SQUASH[logit + CERTAIN], 65520))


@kernel
def decayed(exponent: int) -> int:
    """4096 * exp(-exponent / 256), at most 4095."""
    return min(4095, EXP[min(exponent, CERTAIN)] >> 18)


@kernel
def level(value: int) -> int:
    """Half octaves: 0, 1, then two for each bit length, at most 24."""
    if value < 2:
        return value
    if value >= 8192:
        return 24
    length = 2
    while value >> length:
        length += 1
    return min(2 * length - 2 + (value >> length - 2 & 1), 24)


@kernel
def near(value: int, mean: int) -> int:
    """How large a number is beside the mean, and on which side: 0..8, 4 in the middle."""
    size = min(4, level(8 * abs(value) // (mean + 1)) // 2)
    return 4 + size if value > 0 else 4 - size


@kernel
def sign3(value: int) -> int:
    """0, 1, 2 for what is negative, zero, positive."""
    return 2 if value > 0 else 0 if value < 0 else 1


@kernel
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


@kernel
def mix(
    s: Any, data: Any, bits: Any, m: Any, many: int, weights: int, guide: int, given: int
) -> int:
    """One bit: ``guide`` is what the geometric law expects; the contexts' cells are at ``many`` places."""
    m[LOGITS] = guide
    total = guide * m[weights]
    for i in range(many):
        cell = m[m[PLACES + i]]
        logit = STRETCH[(cell >> 8) + 32768 >> 4] * CONFIDENCE[cell & 255] >> 8
        m[LOGITS + 1 + i] = logit
        total += logit * m[weights + 1 + i]
    p = squash(total >> 16)
    bit = code_bit(s, data, bits, p << 8, given)
    error = ((bit << 16) - p) * 4
    for i in range(many + 1):
        m[weights + i] += m[LOGITS + i] * error + 65536 >> 17
    target = 32767 if bit else -32768
    for i in range(many):
        cell = m[m[PLACES + i]]
        seen = cell & 255
        expected = (cell >> 8) + ((target - (cell >> 8)) * RATE[seen] >> 16)
        m[m[PLACES + i]] = (expected << 8) + min(seen + 1, 255)
    return bit


@kernel
def magnitude_levels(
    m: Any, row: int, col: int, around: int, mean: int, before: int, above: int, left: int
) -> None:
    """Where the six contexts of a magnitude have their cells, from the first of a kind of bit."""
    low, high = level(row), level(col)
    m[FOUND], m[FOUND + 1], m[FOUND + 2] = low, 25 + high, 50 + level(4 * around)
    m[FOUND + 3], m[FOUND + 4] = 75 + level(mean), 100 + 12 * min(low, 11) + min(high, 11)
    m[FOUND + 5] = 244 + 16 * min(before, 3) + 4 * min(above, 3) + min(left, 3)


@kernel
def code_mixed(
    s: Any, data: Any, bits: Any, m: Any, values: Any,
    rows: int, columns: int, rest: int, width: int, told: int,
) -> None:  # fmt: skip
    """The symbols of a tensor in C order; ``told`` is the mean of the magnitudes, 16ths, about."""
    for i in range(OWN, WEIGHTS):
        m[i] = 0
    sums, total, at, kind = new(columns), 0, 0, 1 if rows > 1 else 0
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
                    if mix(s, data, bits, m, 6, weights, 0, is_minus):
                        values[at] = -size
                    else:
                        values[at] = size
                if s[ERROR]:
                    return
                row_sum, row_count, total = row_sum + size, row_count + 1, total + size
                sums[column] += size
                at += 1


@kernel
def length_guide(length: int, mean: int) -> int:
    """Log-odds that a magnitude is longer than so many bits, by the geometric law."""
    if length:
        return STRETCH[decayed((4096 << length - 1) // (mean + 8))]
    return STRETCH[min(4095, 8192 * mean // (2 * mean + 16) if mean < 1 << 40 else 4095)]


@kernel
def code_magnitude(s: Any, data: Any, bits: Any, m: Any, kind: int, mean: int, given: int) -> int:
    """Its bit length in unary, then the bits below the top one."""
    length, target = 0, 0
    while given >> target:
        target += 1
    while length < LONGEST:
        first = LENGTHS_AT + (kind * LONGEST + length) * LEVELS
        m[PLACES] = OWN + length
        for i in range(6):
            m[PLACES + 1 + i] = first + m[FOUND + i]
        weights, more = WEIGHTS + 8 * (7 * kind + min(length, 6)), 1 if length < target else 0
        if not mix(s, data, bits, m, 7, weights, length_guide(length, mean), more):
            break
        length += 1
    if not length:
        return 0
    out = 1
    for shift in range(length - 2, -1, -1):
        guide, depth, bit = max(-((4096 << shift) // (mean + 8)), -2000), length - 2 - shift, 0
        if s[ERROR]:
            return 0
        if depth < 2:
            first = LOW_AT + ((kind * 34 + length) * 4 + out) * LEVELS
            m[PLACES] = OWN_LOW + 4 * length + out
            for i in range(6):
                m[PLACES + 1 + i] = first + m[FOUND + i]
            weights = WEIGHTS + 8 * (LOW_SETS + 2 * kind + depth)
            bit = mix(s, data, bits, m, 7, weights, guide, given >> shift & 1)
        else:
            bit = code_bit(s, data, bits, squash(guide) << 8, given >> shift & 1)
        out = 2 * out + bit
    return out


@kernel
def sign_places(
    m: Any, kind: int, mean: int, size: int, left: int, up: int, aslant: int, across: int, beside: int
) -> None:  # fmt: skip
    """The cells of a sign; that of the tensor's own is its last, and here the first."""
    slope = near(2 * left + 2 * up + aslant + across, mean)
    relative = min(3, level(8 * size // (mean + 1)) // 2)
    at, a, b = SIGNS_AT + 144 * kind, sign3(left), sign3(up)
    m[PLACES] = OWN_SIGNS + slope
    m[PLACES + 1] = at + 3 * a + b
    m[PLACES + 2] = at + 9 + 4 * slope + relative
    m[PLACES + 3] = at + 45 + 3 * sign3(beside) + sign3(left + up)
    m[PLACES + 4] = at + 54 + 27 * a + 9 * b + 3 * sign3(aslant) + sign3(across)
    m[PLACES + 5] = at + 135 + near(up, mean)
