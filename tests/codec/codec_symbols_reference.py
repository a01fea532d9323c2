"""The symbols of a tensor, decoded as docs/format.md says, one number at a time, in Python integers only."""

from __future__ import annotations

import itertools
import math
from typing import Any

T = 2**24


class Flag:
    def __init__(self, z: int = 0, o: int = 0) -> None:
        self.z, self.o = z, o


class Symbols:
    """``decoder`` has ``symbol(table)`` and ``below(size)``."""

    def __init__(self, decoder: Any) -> None:
        self.d = decoder
        self.some, self.mixed, self.trellis, self.lanes = Flag(0, 2), Flag(), Flag(), Flag()
        self.rows, self.columns, self.centred = Flag(), Flag(), Flag()
        self.steps, self.centres = [Flag() for _ in range(8)], [Flag() for _ in range(8)]
        self.bucket = 24
        self.tables: dict[Any, dict[str, Any]] = {}
        self.cells: dict[Any, list[int]] = {}
        self.weights: dict[Any, list[int]] = {}
        self.number = 0

    def flag(self, f: Flag) -> int:
        one = min(max((2 * f.o + 1) * T // (2 * (f.z + f.o) + 2), 1), T - 1)
        bit = self.d.symbol([T - one, one])
        f.o, f.z = f.o + bit, f.z + 1 - bit
        return int(bit)

    def signed(self, flags: list[Flag]) -> int:
        length = 0
        while self.flag(flags[min(length, len(flags) - 1)]):
            length += 1
        v = 2**length - 1 + self.d.below(2**length)
        return int(-(v + 1) // 2 if v % 2 else v // 2)

    def wide(self, bits: int, count: int) -> list[int]:
        out, left = [0] * count, bits
        while left:
            part = min(16, left)
            left -= part
            out = [v + self.d.below(2**part) * 2**left for v in out]
        return out

    def learned(self, n: int, count: int) -> list[int]:
        stops, passes, out = [0] * n, [0] * n, []
        while len(out) < count:
            left, table = T, []
            for i in range(n):
                f = left * (2 * stops[i] + 1) // (2 * (stops[i] + passes[i]) + 2)
                f = max(1, min(f, left - (n - i)))
                table.append(f)
                left -= f
            size = min(max(1, len(out) // 8), count - len(out))
            block = [self.d.symbol([*table, left]) for _ in range(size)]
            for s in block:
                for i in range(min(s + 1, n)):
                    if i == s:
                        stops[i] += 1
                    else:
                        passes[i] += 1
            out += block
        return out

    def under(self, key: Any, first: list[int], add: Any, count: int) -> list[int]:
        t = self.tables.setdefault(key, {"c": list(first), "K": 0, "F": 0, "f": None})
        out: list[int] = []

        def fresh() -> list[int]:
            total = sum(t["c"])
            f = [c * (T - len(t["c"])) // total + 1 for c in t["c"]]
            f[0] += T - sum(f)
            return f

        t["f"] = t["f"] or fresh()
        while len(out) < count:
            size = min(max(64, 2 * t["K"]), count - len(out))
            block = [self.d.symbol(t["f"]) for _ in range(size)]
            for s in block:
                add(t["c"], s)
            t["K"] += size
            t["F"] += size
            while t["K"] > 8192:
                t["c"] = [c - c // 2 for c in t["c"]]
                t["K"] //= 2
            if 8 * t["F"] >= t["K"]:
                t["f"], t["F"] = fresh(), 0
            out += block
        return out

    def table(self, context: int, kind: int, b: int, count: int) -> list[int]:
        m = (1024, 1218, 1448, 1722)[b % 4] * 2 ** (b // 4) // 64
        g = [2**20]
        for _ in range(23):
            g.append(g[-1] * m // (m + 1024))
        g.append(g[-1] * m // 1024)
        if kind == 0:
            g[0] = g[0] * (m + 1024) // (2 * m + 1024)
        each = [w * 2048 // sum(g) + 1 for w in g]
        first = [c for c in each for _ in range(2)]
        if kind == 0:
            first = [2 * each[0], *first[2:]]

        def add(counts: list[int], s: int) -> None:
            if kind == 0 and s == 0:
                counts[0] += 256
                return
            other = (s - 1 ^ 1) + 1 if kind == 0 else s ^ 1
            counts[s] += 128
            counts[other] += 128

        out = self.under((context, kind, b), first, add, count)
        e = len(first) - 2
        where = [i for i, s in enumerate(out) if s >= e]
        if where:
            lengths = self.learned(32, len(where))
            x = [2**length - 1 for length in lengths]
            for length in sorted(set(lengths)):
                mine = [i for i, other in enumerate(lengths) if other == length]
                for i, v in zip(mine, self.wide(length, len(mine)), strict=True):
                    x[i] += v
            for i, v in zip(where, x, strict=True):
                out[i] += 2 * v
        return out

    def numbers(self, context: int, b: int, count: int) -> list[int]:
        s = max(0, (b - 36) // 4 + 1)
        if not s:
            us = self.table(context, 0, b, count)
            return [(u + 1) // 2 if u % 2 else -(u // 2) for u in us]
        us = self.table(context, 1, b - 4 * s, count)
        low = self.wide(s, count)
        return [(-1 - u // 2 if u % 2 else u // 2) * 2**s + v for u, v in zip(us, low, strict=True)]

    def halves(self, context: int, b: int, count: int) -> list[tuple[int, int]]:
        s = max(0, (b - 36) // 4 + 1)
        us = self.table(context, 1, b - 4 * s, count)
        low = self.wide(s, count)
        return [(u // 2 * 2**s + v, u % 2) for u, v in zip(us, low, strict=True)]

    def tensor(self, shape: tuple[int, ...]) -> list[int]:
        if not self.flag(self.some):
            return [0] * math.prod(shape)
        if len(shape) < 2:
            view = (1, 1, math.prod(shape))
        elif shape[1] == 1:
            view = (shape[0], math.prod(shape[2:]), 1)
        else:
            view = (shape[0], shape[1], math.prod(shape[2:]))
        if self.flag(self.mixed):
            return self.in_mixture(view, shape[-1] if len(shape) > 3 else 1)
        return self.scaled(shape, view)

    def scaled(self, shape: tuple[int, ...], view: tuple[int, int, int]) -> list[int]:  # noqa: C901
        trellis = self.flag(self.trellis)
        lanes = trellis and len(shape) > 1 and self.flag(self.lanes)
        self.bucket += self.signed(self.steps)
        rows, columns, rest = view
        by_row, by_column = [0] * rows, [0] * columns
        if rows > 1 and self.flag(self.rows):
            by_row = self.numbers(1, 24, rows)
        if columns > 1 and self.flag(self.columns):
            by_column = self.numbers(2, 24, columns)
        centre = 0
        if len(shape) < 2 and not trellis and self.flag(self.centred):
            centre = self.signed(self.centres) * 2 ** (max(0, self.bucket - 24) // 4)
        buckets = [
            min(max(self.bucket + r + c, 0), 147) // 2 * 2
            for r, c, _ in itertools.product(by_row, by_column, range(rest))
        ]
        runs = {b: [i for i, x in enumerate(buckets) if x == b] for b in sorted(set(buckets))}
        out = [0] * len(buckets)
        if not trellis:
            for b, places in runs.items():
                for i, v in zip(places, self.numbers(0, b, len(places)), strict=True):
                    out[i] = v + centre
            return out
        parity = [0] * len(buckets)
        for b, places in runs.items():

            def add(counts: list[int], s: int) -> None:
                counts[s] += 256

            for i, v in zip(
                places, self.under(("parity", b), [64, 64], add, len(places)), strict=True
            ):
                parity[i] = v
        grid = [0] * len(buckets)
        step = math.prod(shape[1:]) if lanes else 1
        for lane in range(step):
            state = 0
            for i in range(lane, len(buckets), step):
                grid[i] = state % 2
                state = (0, 7, 1, 6, 2, 5, 3, 4)[state] ^ 2 * parity[i]
        for b, places in runs.items():
            h = max(0, b - 4)
            if h >= 36:
                for i, v in zip(places, self.numbers(3, h, len(places)), strict=True):
                    out[i] = 2 * v + parity[i]
                continue
            for x in range(4):
                mine = [i for i in places if 2 * grid[i] + parity[i] == x]
                if not mine:
                    continue
                if x % 2 == 0:
                    for i, v in zip(mine, self.numbers(3 + x, h, len(mine)), strict=True):
                        out[i] = 2 * v
                else:
                    for i, (j, s) in zip(mine, self.halves(3 + x, h, len(mine)), strict=True):
                        out[i] = -(2 * j + 1) if s else 2 * j + 1
        return [2 * k - g * ((k > 0) - (k < 0)) for k, g in zip(out, grid, strict=True)]

    # -- mixed ---------------------------------------------------------------------------------

    def bit(self, weights: Any, contexts: list[Any], guide: int, start: tuple[int, int]) -> int:
        cells = [self.cells.setdefault(c, [32768, 0]) for c in contexts]
        logits = [guide, *(STRETCH[p // 16] * (512 * n // (2 * n + 3)) // 256 for p, n in cells)]
        w = self.weights.setdefault(weights, [start[0], *[start[1]] * len(cells)])
        p = squash(sum(a * b for a, b in zip(w, logits, strict=True)) // 2**16)
        bit = int(self.d.symbol([T - p * 256, p * 256]))
        for i, logit in enumerate(logits):
            w[i] += (logit * 4 * (65536 * bit - p) + 65536) // 2**17
        for cell in cells:
            cell[0] += (65535 * bit - cell[0]) * (655360 // (10 * cell[1] + 16)) // 2**16
            cell[1] = min(255, cell[1] + 1)
        return bit

    def in_mixture(self, view: tuple[int, int, int], width: int) -> list[int]:
        rows, columns, rest = view
        self.bucket += self.signed(self.steps)
        b = self.bucket
        told = (1024, 1218, 1448, 1722)[b % 4] * 2 ** (b // 4) // 64 // 64
        tensor, many = self.number, int(rows > 1)
        self.number += 1
        out: list[int] = []
        for row, column, place in itertools.product(range(rows), range(columns), range(rest)):
            n = len(out)

            def at(r: int, c: int, q: int, row: int = row, n: int = n) -> int:
                i = (r * columns + c) * rest + q
                return out[i] if min(r, c, q) >= 0 and i < n else 0

            start = row * columns * rest
            overall = (16 * sum(map(abs, out)) + 4 * told) // (n + 4)
            r16 = (16 * sum(map(abs, out[start:])) + 2 * overall) // (n - start + 2)
            mine = [abs(out[i]) for i in range(n) if i // rest % columns == column]
            assert len(mine) == row * rest + place
            c16 = (16 * sum(mine) + 2 * overall) // (len(mine) + 2)
            mu = max(1, r16 * c16 // (overall + 1))
            before = abs(out[-1]) if n > start else 0
            earlier = abs(out[-2]) if n > start + 1 else 0
            above, left = abs(at(row - 1, column, place)), abs(at(row, column - 1, place))
            if rest > 1:
                x, y = place % width, place // width
                k = at(row, column, place - 1) if x else 0
                u = at(row, column, place - width) if y else 0
                d = at(row, column, place - width - 1) if x and y else 0
                e = at(row, column, place - width + 1) if y and x < width - 1 else 0
                a, z = 2 * abs(k) + 2 * abs(u) + abs(d) + abs(e), at(row, column - 1, place)
            else:
                k, u, d, e, z = at(row, column - 1, 0), at(row, column - 2, 0), 0, 0, 0
                a = 2 * before + earlier + left
            levels: list[Any] = [
                (tensor,),
                (many, level(r16)),
                (many, level(c16)),
                (many, level(4 * a)),
                (many, level(mu)),
                (many, min(11, level(r16)), min(11, level(c16))),
                (many, min(3, before), min(3, above), min(3, left)),
            ]
            length = 0
            while True:
                if length:
                    guide = STRETCH[decayed(4096 * 2 ** (length - 1) // (mu + 8))]
                else:
                    guide = STRETCH[min(4095, 8192 * mu // (2 * mu + 16))]
                contexts = [("length", length, i, *v) for i, v in enumerate(levels)]
                if not self.bit(("l", many, min(length, 6)), contexts, guide, (32768, 5243)):
                    break
                length += 1
            value = int(length > 0)
            for i in range(length - 2, -1, -1):
                guide = max(-2000, -(4096 * 2**i // (mu + 8)))
                depth = length - 2 - i
                if depth < 2:
                    contexts = [("low", length, value, j, *v) for j, v in enumerate(levels)]
                    bit = self.bit(("m", many, depth), contexts, guide, (32768, 5243))
                else:
                    p = squash(guide)
                    bit = self.d.symbol([T - p * 256, p * 256])
                value = 2 * value + bit
            if value:

                def near(x: int, mu: int = mu) -> int:
                    size = min(4, level(8 * abs(x) // (mu + 1)) // 2)
                    return size if x > 0 else -size

                v = 2 * k + 2 * u + d + e
                contexts = [
                    ("s", 0, many, sign(k), sign(u)),
                    ("s", 1, many, near(v), min(3, level(8 * value // (mu + 1)) // 2)),
                    ("s", 2, many, sign(z), sign(k + u)),
                    ("s", 3, many, sign(k), sign(u), sign(d), sign(e)),
                    ("s", 4, many, near(u)),
                    ("s", 5, tensor, near(v)),
                ]
                if self.bit(("s", many), contexts, 0, (0, 13107)):
                    value = -value
            out.append(value)
        return out


EXP = [2**30]
for _ in range(2816):
    EXP.append(EXP[-1] * 1069555701 // 2**30)


def loose(x: int) -> int:
    x = max(-2816, min(2816, x))
    return 2**46 // (2**30 + EXP[x]) if x > 0 else EXP[-x] * 2**16 // (2**30 + EXP[-x])


def squash(x: int) -> int:
    return max(16, min(65520, loose(x)))


STRETCH, _at = [], -2816
for _i in range(4096):
    while loose(_at) < 16 * _i + 8:
        _at += 1
    STRETCH.append(_at)


def decayed(x: int) -> int:
    return min(4095, EXP[min(x, 2816)] // 2**18)


def level(x: int) -> int:
    if x < 2:
        return x
    return min(24, 2 * x.bit_length() - 2 + (x >> x.bit_length() - 2) % 2)


def sign(x: int) -> int:
    return (x > 0) - (x < 0)
