"""Model 3, for small tensors: bit by bit, each under a mixture of what several contexts expect.

A magnitude is told as its bit length in unary and the bits below the top one; then its sign. Every
bit has an expectation from the geometric law whose mean the row and the column suggest, and one from the counts
of each context (what the row, the column, the neighbours in the kernel and the row before look like). Their
log-odds are added with weights that learn. Integers throughout; some 50 microseconds a symbol.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import mul

from epigram.codec.coder import Coder
from epigram.codec.logits import STRETCH, decayed, squash

MOST_SYMBOLS = 1 << 15
"""In one tensor; a reader refuses more, since they are read one by one."""
LENGTHS = 33
_LIMIT = 255
_GUIDE, _WEIGHT, _SIGN_WEIGHT = 32768, 5243, 13107
_CONFIDENCE = [512 * n // (2 * n + 3) for n in range(_LIMIT + 1)]
_RATE = [655360 // (10 * n + 16) for n in range(_LIMIT + 1)]

Key = tuple[int, ...]


class Mixer:
    """Counts by context and weights by kind of bit; what the tensors of a file share."""

    def __init__(self) -> None:
        self.tensors = 0
        self._cells: dict[Key, list[int]] = {}
        self._weights: dict[Key, list[int]] = {}

    def fork(self) -> Mixer:
        """One that knows as much and learns apart."""
        out = Mixer()
        out.tensors = self.tensors
        out._cells = {key: cell[:] for key, cell in self._cells.items()}
        out._weights = {key: weights[:] for key, weights in self._weights.items()}
        return out

    def code(
        self, coder: Coder, select: Key, keys: Sequence[Key], guide: int, bit: int | None
    ) -> int:
        """One bit: ``guide`` is what the geometric law expects, ``keys`` name the contexts."""
        known, stretch, confidence = self._cells, STRETCH, _CONFIDENCE
        try:
            cells = [known[key] for key in keys]
        except KeyError:
            cells = [known.setdefault(key, [32768, 0]) for key in keys]
        logits = [guide]
        logits += [stretch[expected >> 4] * confidence[seen] >> 8 for expected, seen in cells]
        weights = self._weights.get(select)
        if weights is None:
            first = [0, _SIGN_WEIGHT] if select[0] == SIGN else [_GUIDE, _WEIGHT]
            weights = self._weights[select] = [first[0], *[first[1]] * len(keys)]
        p = squash(sum(map(mul, logits, weights)) >> 16)
        bit = coder.bit(p, bit)
        error = ((bit << 16) - p) * 4
        weights[:] = [
            weight + (logit * error + 65536 >> 17)
            for weight, logit in zip(weights, logits, strict=True)
        ]
        target, rate = 65535 if bit else 0, _RATE
        for cell in cells:
            expected, seen = cell
            cell[0] = expected + ((target - expected) * rate[seen] >> 16)
            if seen < _LIMIT:
                cell[1] = seen + 1
        return bit


LENGTH, LOW, SIGN = 0, 1, 2


def code_mixed(
    coder: Coder,
    mixer: Mixer,
    values: Sequence[int] | None,
    grid: tuple[int, int, int],
    width: int,
    mean: int,
) -> list[int]:
    """The symbols of one tensor in C order.

    Args:
        coder: where they go or come from.
        mixer: what earlier tensors taught.
        values: the symbols; None for a reader.
        grid: rows, columns, places of a kernel.
        width: places of a kernel in one of its rows.
        mean: of the magnitudes, 16ths, about.
    """
    state = _Tensor(grid, width, mean, mixer.tensors)
    mixer.tensors += 1
    rows, columns, places = grid
    for row in range(rows):
        state.start_row(row)
        for column in range(columns):
            for place in range(places):
                state.move(column, place)
                at = len(state.out)
                state.add(_code_one(coder, mixer, state, None if values is None else values[at]))
    return state.out


def _code_one(coder: Coder, mixer: Mixer, state: _Tensor, value: int | None) -> int:
    magnitude = None if value is None else abs(value)
    target = None if magnitude is None else magnitude.bit_length()
    mean, levels = state.mean, state.levels
    length = 0
    while length < LENGTHS:
        if length:
            guide = STRETCH[decayed((4096 << length - 1) // (mean + 8))]
        else:
            guide = STRETCH[min(4095, 8192 * mean // (2 * mean + 16))]
        keys = [(LENGTH, length, which, *level) for which, level in enumerate(levels)]
        go_on = None if target is None else int(length < target)
        if not mixer.code(coder, (LENGTH, state.kind, min(length, 6)), keys, guide, go_on):
            break
        length += 1
    if not length:
        return 0
    out = 1
    for shift in range(length - 2, -1, -1):
        guide = max(-((4096 << shift) // (mean + 8)), -2000)
        given = None if magnitude is None else magnitude >> shift & 1
        depth = length - 2 - shift
        if depth < 2:
            keys = [(LOW, length, out, which, *level) for which, level in enumerate(levels)]
            bit = mixer.code(coder, (LOW, state.kind, depth), keys, guide, given)
        else:
            bit = coder.bit(squash(guide), given)
        out = 2 * out + bit
    negative = None if value is None else int(value < 0)
    negative = mixer.code(coder, (SIGN, state.kind), state.signs(out), 0, negative)
    return -out if negative else out


class _Tensor:
    """What has been coded of a tensor, seen from the place that comes next."""

    def __init__(self, grid: tuple[int, int, int], width: int, mean: int, number: int) -> None:
        self._rows, self._columns, self._places = grid
        self._width, self._number, self._told = width, number, mean
        self.kind = int(grid[0] > 1)
        self.out: list[int] = []
        self._column_sums, self._total = [0] * self._columns, 0
        self.start_row(0)

    def start_row(self, row: int) -> None:
        self._row, self._row_sum, self._row_count = row, 0, 0

    def add(self, value: int) -> None:
        self.out.append(value)
        magnitude = abs(value)
        self._row_sum += magnitude
        self._row_count += 1
        self._column_sums[self._column] += magnitude
        self._total += magnitude

    def move(self, column: int, place: int) -> None:
        """Look from a place; sets ``mean`` (16ths) and ``levels``, the contexts of its magnitude."""
        self._column, self._place = column, place
        out, at = self.out, len(self.out)
        overall = (self._total * 16 + 4 * self._told) // (at + 4)
        by_row = (self._row_sum * 16 + 2 * overall) // (self._row_count + 2)
        met = self._row * self._places + place
        by_column = (self._column_sums[column] * 16 + 2 * overall) // (met + 2)
        self.mean = max(1, by_row * by_column // (overall + 1))
        row, col = level(by_row), level(by_column)
        before = abs(out[-1]) if self._row_count else 0
        earlier = abs(out[-2]) if self._row_count > 1 else 0
        above = abs(out[at - self._columns * self._places]) if self._row else 0
        left = abs(out[at - self._places]) if column else 0
        near = self._near = self._neighbours()
        if self._places > 1:
            around = 2 * abs(near[0]) + 2 * abs(near[1]) + abs(near[2]) + abs(near[3])
        else:
            around = 2 * before + earlier + left
        kind = self.kind
        self.levels = (
            (self._number, 0),
            (kind, row),
            (kind, col),
            (kind, level(4 * around)),
            (kind, level(self.mean)),
            (kind, min(row, 11), min(col, 11)),
            (kind, min(before, 3), min(above, 3), min(left, 3)),
        )

    def _neighbours(self) -> tuple[int, int, int, int]:
        """Left, up, up-left and up-right in the kernel; without one, one and two columns before."""
        out, at, place, width = self.out, len(self.out), self._place, self._width
        if self._places == 1:
            one = out[at - 1] if self._column else 0
            return one, (out[at - 2] if self._column > 1 else 0), 0, 0
        inner, lower = place % width, place >= width
        return (
            out[at - 1] if inner else 0,
            out[at - width] if lower else 0,
            out[at - width - 1] if lower and inner else 0,
            out[at - width + 1] if lower and inner < width - 1 else 0,
        )

    def signs(self, magnitude: int) -> list[Key]:
        """The contexts of the sign of a magnitude."""
        left, up, before, after = self._near
        sloped = 2 * left + 2 * up + before + after
        beside = 0
        if self._column and self._places > 1:
            beside = self.out[len(self.out) - self._places]
        kind, mean = self.kind, self.mean
        return [
            (SIGN, 0, kind, sign(left), sign(up)),
            (
                SIGN,
                1,
                kind,
                signed_level(sloped, mean),
                min(3, level(8 * magnitude // (mean + 1)) // 2),
            ),
            (SIGN, 2, kind, sign(beside), sign(left + up)),
            (SIGN, 3, kind, sign(left), sign(up), sign(before), sign(after)),
            (SIGN, 4, kind, signed_level(up, mean)),
            (SIGN, 5, self._number, signed_level(sloped, mean)),
        ]


def level(value: int) -> int:
    """Half octaves: 0, 1, then two for each bit length, at most 24."""
    if value < 2:
        return value
    length = value.bit_length()
    return min(2 * length - 2 + (value >> length - 2 & 1), 24)


def sign(value: int) -> int:
    """-1, 0 or 1."""
    return (value > 0) - (value < 0)


def signed_level(value: int, mean: int) -> int:
    """How large a number is beside the mean, and on which side: -4..4."""
    size = min(4, level(8 * abs(value) // (mean + 1)) // 2)
    return size if value > 0 else -size
