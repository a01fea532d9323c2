"""All numbers of one small tensor, bit by bit under a mixture of contexts: kernels (see ``native``).

The cells of a context stand side by side, by kind of bit and level; a cell is (P - 32768) * 256 + N, so at first 0. Cells that
belong to the tensor alone (``own``) begin anew with each. Weights have eight places a set.
"""

from __future__ import annotations

from typing import Any

from epigram.codec.logits import CERTAIN, EXP, SQUASH, STRETCH
from epigram.codec.native import kernel, new
from epigram.codec.range_coder import ERROR, code_bit

LONGEST = 33
LEVELS, OWN_LENGTHS, OWN_LOW, OWN_SIGNS = 308, 0, 33, 169
LENGTHS_AT, LOW_AT, SIGNS_AT, CELLS = 0, 2 * 33 * 308, 2 * 33 * 308 + 2 * 34 * 4 * 308, 104392
OWN = 178
LOW_SETS, SIGN_SETS, SETS = 14, 18, 20
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
    s: Any, data: Any, bits: Any, cells: Any, own: Any, places: Any, many: int,
    weights: Any, at: int, logits: Any, guide: int, given: int,
) -> int:  # fmt: skip
    """One bit: ``guide`` is what the geometric law expects; ``places`` of its cells, the first of the tensor's own."""
    logits[0] = guide
    total = guide * weights[at]
    for i in range(many):
        cell = own[places[0]] if i == 0 else cells[places[i]]
        logits[i + 1] = STRETCH[(cell >> 8) + 32768 >> 4] * CONFIDENCE[cell & 255] >> 8
        total += logits[i + 1] * weights[at + i + 1]
    p = squash(total >> 16)
    bit = code_bit(s, data, bits, p << 8, given)
    error = ((bit << 16) - p) * 4
    for i in range(many + 1):
        weights[at + i] += logits[i] * error + 65536 >> 17
    target = 32767 if bit else -32768
    for i in range(many):
        cell = own[places[0]] if i == 0 else cells[places[i]]
        seen = cell & 255
        expected = (cell >> 8) + ((target - (cell >> 8)) * RATE[seen] >> 16)
        cell = (expected << 8) + min(seen + 1, 255)
        if i == 0:
            own[places[0]] = cell
        else:
            cells[places[i]] = cell
    return bit


@kernel
def magnitude_levels(
    levels: Any, row: int, col: int, around: int, mean: int, before: int, above: int, left: int
) -> None:
    """Where the six contexts of a magnitude have their cells, from the first of a kind of bit."""
    low, high = level(row), level(col)
    levels[0], levels[1], levels[2] = low, 25 + high, 50 + level(4 * around)
    levels[3], levels[4] = 75 + level(mean), 100 + 12 * min(low, 11) + min(high, 11)
    levels[5] = 244 + 16 * min(before, 3) + 4 * min(above, 3) + min(left, 3)


@kernel
def code_mixed(
    s: Any, data: Any, bits: Any, cells: Any, weights: Any, values: Any,
    rows: int, columns: int, rest: int, width: int, told: int,
) -> None:  # fmt: skip
    """The symbols of a tensor in C order; ``told`` is the mean of the magnitudes, 16ths, about."""
    own, levels, places, logits = new(OWN), new(6), new(7), new(8)
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
                    levels, by_row, by_column, around, mean, before, above,
                    abs(values[at - rest]) if column else 0,
                )  # fmt: skip
                size = code_magnitude(
                    s, data, bits, cells, own, places, levels, weights, logits, kind, mean, abs(values[at])
                )  # fmt: skip
                if size and not s[ERROR]:
                    sign_places(places, kind, mean, size, left, up, aslant, across, beside)
                    is_minus = 1 if values[at] < 0 else 0
                    if mix(
                        s, data, bits, cells, own, places, 6,
                        weights, 8 * (SIGN_SETS + kind), logits, 0, is_minus,
                    ):  # fmt: skip
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
def code_magnitude(
    s: Any, data: Any, bits: Any, cells: Any, own: Any, places: Any, levels: Any,
    weights: Any, logits: Any, kind: int, mean: int, given: int,
) -> int:  # fmt: skip
    """Its bit length in unary, then the bits below the top one."""
    length, target = 0, 0
    while given >> target:
        target += 1
    while length < LONGEST:
        guide = length_guide(length, mean)
        places[0] = OWN_LENGTHS + length
        for i in range(6):
            places[i + 1] = LENGTHS_AT + (kind * LONGEST + length) * LEVELS + levels[i]
        at, more = 8 * (7 * kind + min(length, 6)), 1 if length < target else 0
        if not mix(s, data, bits, cells, own, places, 7, weights, at, logits, guide, more):
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
            places[0] = OWN_LOW + 4 * length + out
            for i in range(6):
                places[i + 1] = LOW_AT + ((kind * 34 + length) * 4 + out) * LEVELS + levels[i]
            at, bit = 8 * (LOW_SETS + 2 * kind + depth), given >> shift & 1
            bit = mix(s, data, bits, cells, own, places, 7, weights, at, logits, guide, bit)
        else:
            bit = code_bit(s, data, bits, squash(guide) << 8, given >> shift & 1)
        out = 2 * out + bit
    return out


@kernel
def sign_places(
    places: Any, kind: int, mean: int, size: int, left: int, up: int, aslant: int, across: int, beside: int
) -> None:  # fmt: skip
    """The cells of a sign; that of the tensor's own is its last, and here the first."""
    slope = near(2 * left + 2 * up + aslant + across, mean)
    relative = min(3, level(8 * size // (mean + 1)) // 2)
    at, a, b = SIGNS_AT + 144 * kind, sign3(left), sign3(up)
    places[0] = OWN_SIGNS + slope
    places[1] = at + 3 * a + b
    places[2] = at + 9 + 4 * slope + relative
    places[3] = at + 45 + 3 * sign3(beside) + sign3(left + up)
    places[4] = at + 54 + 27 * a + 9 * b + 3 * sign3(aslant) + sign3(across)
    places[5] = at + 135 + near(up, mean)
