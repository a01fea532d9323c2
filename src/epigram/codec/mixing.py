"""Model 3, for small tensors: bit by bit, each under a mixture of what several contexts expect.

A magnitude is told as its bit length in unary and the bits below the top one; then its sign. Every
bit has an expectation from the geometric law whose mean the row and the column suggest, and one from the counts
of each context (what the row, the column, the neighbours in the kernel and the row before look like). Their
log-odds are added with weights that learn. Integers throughout; the loops are in ``contexts``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from epigram.codec.coder import Coder
from epigram.codec.contexts import BLOCK, CELLS, SETS, SIGN_SETS, SIZE, WEIGHTS
from epigram.codec.native import Kit

MOST_SYMBOLS = 1 << 15
"""In one tensor; a reader refuses more, since they are read one by one."""
_GUIDE, _WEIGHT, _SIGN_WEIGHT = 32768, 5243, 13107


class Mixer:
    """Counts by context and weights by kind of bit; what the tensors of a file share."""

    def __init__(self) -> None:
        self._model: Any = None
        self._used = 0

    def fork(self, kit: Kit) -> Mixer:
        """One that knows as much and learns apart."""
        out = Mixer()
        if self._model is not None:
            out._model, out._used = kit.zeros(SIZE), self._used
            out._model[: self._used] = self._model[: self._used]
        return out

    def array(self, kit: Kit, longest: int) -> Any:
        """What is learned, as its kernels take it; a writer's numbers have so many bits."""
        if self._model is None:
            self._model = kit.zeros(SIZE)
            guides, others = [_GUIDE] * SIGN_SETS, [_WEIGHT] * SIGN_SETS
            guides += [0] * (SETS - SIGN_SETS)
            others += [_SIGN_WEIGHT] * (SETS - SIGN_SETS)
            weights = [[guide, *[other] * 7] for guide, other in zip(guides, others, strict=True)]
            self._model[WEIGHTS : WEIGHTS + 8 * SETS] = kit.array(np.array(weights))
        self._used = max(self._used, CELLS + (longest + 1) * BLOCK)
        return self._model


def code_mixed(
    coder: Coder,
    mixer: Mixer,
    values: NDArray[np.int64] | None,
    grid: tuple[int, int, int],
    width: int,
    mean: int,
) -> NDArray[np.int64]:
    """The symbols of one tensor in C order.

    Args:
        coder: where they go or come from.
        mixer: what earlier tensors taught.
        values: the symbols; None for a reader.
        grid: rows, columns, places of a kernel.
        width: places of a kernel in one of its rows.
        mean: of the magnitudes, 16ths, about.
    """
    count = grid[0] * grid[1] * grid[2]
    longest = 0 if values is None else int(np.abs(values).max()).bit_length()
    numbers = coder.kit.zeros(count) if values is None else coder.kit.array(values)
    model = mixer.array(coder.kit, longest)
    sums, most = coder.kit.zeros(grid[1]), (2 * longest + 1) * count
    coder.run(coder.kit.code_mixed, most, model, numbers, sums, *grid, width, mean)
    return np.asarray(numbers, dtype=np.int64)
