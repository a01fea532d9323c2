"""Rate-distortion quantisation with a trellis: two grids of one step, and a path that decides between them.

An integer lies on the even multiples (grid 0) or on the odd ones and zero (grid 1); which grid is next, the
parities of the indices before it say (an eight-state machine, whose moves the caller hands in). Each grid
alone is twice as coarse as both together, so an index costs what the coarse grid costs, while the error is almost
that of the fine one: about 1 dB, or a sixth of a bit. The path of least

    weight * (w - step * n)² + price * bits(k)

is found by Viterbi's algorithm. A tensor is one chain in C order; to work on whole arrays it is cut into
segments, the states at the cuts being found first from the surroundings of each cut, so that the
segments fit together and can be solved side by side.

Sources: Marcellin, Fischer 1990 (trellis-coded quantisation); the machine is that of ISO/IEC 15938-17.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

STATES = 8
SEGMENT = 256
AROUND = 32
LANES = 512
"""Segments at a time: what is worked on then fits into a processor's cache."""
_LARGEST = 2**29


@dataclass(frozen=True, eq=False)
class CodeLengths:
    """Bits of an index k under a geometric law with mean m: bits(0), and ``first + slope * (|k| - 1)``."""

    zero: Floats
    first: Floats
    slope: Floats

    @classmethod
    def of_mean(cls, mean: Floats) -> CodeLengths:
        """From mean magnitudes, any shape, all positive."""
        zero = np.log2(1 + 2 * mean)
        return cls(zero, zero - np.log2(2 * mean) + 1 + np.log2(1 + mean), np.log2(1 + 1 / mean))

    def expected(self, mean: Floats) -> Floats:
        """Bits of an index in the mean, under the law that they are of."""
        some = 2 * mean / (1 + 2 * mean)
        bits: Floats = self.zero + some * (self.first - self.zero + mean * self.slope)
        return bits

    def at(self, places: NDArray[np.int64]) -> CodeLengths:
        """Of some places, in their shape."""
        return CodeLengths(self.zero[places], self.first[places], self.slope[places])


def trellis_integers(
    scaled: Floats,
    weight: Floats,
    lengths: CodeLengths,
    *,
    price: float,
    moves: Sequence[int],
) -> NDArray[np.int64]:
    """The integers of least weighted error plus price times bits, of one chain from state 0.

    Args:
        scaled: weights over step, flat.
        weight: of each squared error (in steps), flat.
        lengths: bits of each index, flat arrays.
        price: of a bit.
        moves: the next state after an even index, from each of the eight; after an odd one, xor 2.
    """
    count = len(scaled)
    cuts = np.arange(SEGMENT, count, SEGMENT)
    known = np.zeros(len(cuts) + 2, dtype=np.int64)
    known[-1] = -1
    out = np.empty(len(known) * SEGMENT, dtype=np.int64)
    for first in range(0, len(cuts), LANES):
        some = cuts[first : first + LANES]
        inside = np.clip(some + np.arange(-AROUND, AROUND)[:, None], 0, count - 1)
        chain = scaled[inside], weight[inside], lengths.at(inside)
        known[1 + first : 1 + first + len(some)] = _viterbi(
            _branches(*chain, price), moves, None, None
        )[AROUND]
    for first in range(0, len(cuts) + 1, LANES):
        ends = known[first + 1 : first + 1 + LANES]
        last = first + len(ends)
        places = np.arange(first * SEGMENT, last * SEGMENT).reshape(-1, SEGMENT).T
        inside = np.minimum(places, count - 1)
        chain = scaled[inside], weight[inside], lengths.at(inside)
        branches = _branches(*chain, price)
        branches[:, places >= count] = 0.0
        path = _viterbi(branches, moves, known[first:last], ends)
        parity = (np.array(moves)[path[:-1]] ^ path[1:]) >> 1 & 1
        grid = path[:-1] & 1
        k = _indices(*chain, price, grid, parity)
        out[first * SEGMENT :][: places.size] = (2 * k - np.sign(k) * grid).T.ravel()
    return out[:count]


def _candidates(
    scaled: Floats, grid: int | NDArray[Any], parity: int | NDArray[Any]
) -> tuple[Floats, Floats]:
    """The magnitudes of the nearest index of one parity on one grid, and of the next one towards zero.

    Indices of one parity are two apart, so integers four: |n| = 2|k| - grid.
    """
    magnitude = (np.abs(scaled) + grid) / 2
    near = 2 * np.rint((magnitude - parity) / 2) + parity
    near = np.minimum(np.where(near < 0, near + 2, near), _LARGEST)
    return near, np.where(near >= 2, near - 2, near)


def _cost(
    k: Floats, scaled: Floats, weight: Floats, lengths: CodeLengths, price: float, grid: Any
) -> Floats:
    error = np.abs(scaled) - np.where(k > 0, 2 * k - grid, 0)
    bits = np.where(k > 0, lengths.first + lengths.slope * (k - 1), lengths.zero)
    total: Floats = weight * error * error + price * bits
    return total


def _branches(scaled: Floats, weight: Floats, lengths: CodeLengths, price: float) -> Floats:
    """The least cost of an index of each grid and parity, first axis 2 * grid + parity."""
    out = np.empty((4, *scaled.shape))
    for grid in (0, 1):
        for parity in (0, 1):
            near, low = (
                _cost(k, scaled, weight, lengths, price, grid)
                for k in _candidates(scaled, grid, parity)
            )
            np.minimum(near, low, out=out[2 * grid + parity])
    return out


def _indices(
    scaled: Floats,
    weight: Floats,
    lengths: CodeLengths,
    price: float,
    grid: NDArray[np.int64],
    parity: NDArray[np.int64],
) -> NDArray[np.int64]:
    near, low = _candidates(scaled, grid, parity)
    better = _cost(near, scaled, weight, lengths, price, grid) <= _cost(
        low, scaled, weight, lengths, price, grid
    )
    magnitude = np.where(better, near, low).astype(np.int64)
    return np.where(scaled < 0, -magnitude, magnitude)


def _viterbi(
    branches: Floats,
    moves: Sequence[int],
    start: NDArray[np.int64] | None,
    end: NDArray[np.int64] | None,
) -> NDArray[np.int64]:
    """The states before each step and after the last, [steps + 1, lanes]; ``end`` -1 leaves it open."""
    _, steps, lanes = branches.shape
    into = [
        [(s, p) for s in range(STATES) for p in (0, 1) if moves[s] ^ 2 * p == t]
        for t in range(STATES)
    ]
    source = np.array([[s for s, _ in pair] for pair in into])
    branch = np.array([[2 * (s & 1) + p for s, p in pair] for pair in into])
    every = np.arange(lanes)
    cost = np.zeros((STATES, lanes))
    if start is not None:
        cost[:] = np.inf
        cost[start, every] = 0.0
    came = np.empty((steps, STATES, lanes), dtype=np.bool_)
    for step in range(steps):
        here = branches[:, step]
        one = cost[source[:, 0]] + here[branch[:, 0]]
        two = cost[source[:, 1]] + here[branch[:, 1]]
        np.less(two, one, out=came[step])
        cost = np.minimum(one, two)
    last = np.argmin(cost, axis=0)
    if end is not None:
        last = np.where(end >= 0, end, last)
    path = np.empty((steps + 1, lanes), dtype=np.int64)
    path[steps] = last
    for step in range(steps - 1, -1, -1):
        last = source[last, came[step, last, every].astype(np.int64)]
        path[step] = last
    return path
