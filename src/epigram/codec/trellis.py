"""Integers that an eight-state trellis made: which of two grids a number lies on, the parities before it say.

Quantisers of this kind (trellis-coded, "dependent") have two grids of the same step: the even multiples
(grid 0), and the odd ones with zero (grid 1). An integer n on grid g is told by its index
k = (n + g * sign(n)) / 2; the state, three bits, gives the grid (its lowest bit) and moves with the
parity of k: state' = M(state) xor 2 * (k mod 2). M is linear over bits, so all the states of a long chain
follow from one running xor of M**-i(2 * parity_i): nothing has to be done one by one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Octets = NDArray[np.uint8]

MOVES = (0, 7, 1, 6, 2, 5, 3, 4)
"""M: the next state after an even index; after an odd one, xor 2."""


def _powers() -> tuple[Octets, int]:
    rows = [np.arange(8, dtype=np.uint8)]
    moves = np.array(MOVES, dtype=np.uint8)
    while True:
        following = moves[rows[-1]]
        if (following == rows[0]).all():
            return np.stack(rows), len(rows)
        rows.append(following)


_POWERS, _PERIOD = _powers()
_TURNS = (np.arange(1, _PERIOD + 1, dtype=np.uint8) % _PERIOD) * np.uint8(8)
_BACKWARD = _POWERS[-np.arange(1, _PERIOD + 1) % _PERIOD, 2]
_FORWARD = _POWERS.ravel()
_WALKED = 128
"""Up to this length a loop is quicker than arrays."""


def states(parities: NDArray[np.integer]) -> Octets:
    """The state before each index; ``parities`` [steps, ...] runs along the first axis from state 0."""
    steps = len(parities)
    if parities.ndim == 1 and steps <= _WALKED:
        return np.array(_walk(parities.tolist()), dtype=np.uint8)
    column = (steps,) + (1,) * (parities.ndim - 1)
    pushed = parities.astype(np.uint8) * np.resize(_BACKWARD, column)
    np.bitwise_xor.accumulate(pushed, axis=0, out=pushed)
    out = np.zeros_like(pushed)
    pushed += np.resize(_TURNS, column)
    _FORWARD.take(pushed[:-1], out=out[1:], mode="clip")
    return out


def _walk(parities: list[int]) -> list[int]:
    state, out = 0, []
    for parity in parities:
        out.append(state)
        state = MOVES[state] ^ (2 if parity else 0)
    return out


def indices(integers: Integers) -> Integers | None:
    """K of each integer along the first axis, or None if no trellis made them."""
    if len(integers) > _WALKED and indices(integers[:_WALKED]) is None:
        return None
    odd = integers & 1
    k = (integers + np.sign(integers) * odd) >> 1
    grid = states(k & 1) & 1
    return k if bool(((odd == grid) | (integers == 0)).all()) else None


def integers(k: Integers, grid: NDArray[np.integer]) -> Integers:
    """The integers that indices stand for."""
    out: Integers = 2 * k - np.sign(k) * grid
    return out
