"""The entropy coder on its way in."""

from __future__ import annotations

import math

import numpy as np

from epigram.codec.coder import STATE_BITS, Coder
from epigram.codec.native import Kit, plain
from epigram.codec.range_coder import READ
from epigram.errors import FormatError

_LOSS_BITS = 0.006  # of a symbol, at most: the range has at least 8 bits more than a probability


class Reader(Coder):
    """Reads what a ``Writer`` wrote; anything else is a ``FormatError`` or harmless symbols."""

    def __init__(self, data: bytes, kit: Kit | None = None) -> None:
        super().__init__(kit or plain(), READ)
        self._length = len(data)
        self._tally[1] = 8.0 * len(data) + STATE_BITS
        self._data = np.frombuffer(data + bytes(-len(data) % 4), ">u4").astype(np.int64)
        self.kit.begin(self._s, self._data)

    def finish(self) -> None:
        """Refuse bytes that no symbol needed.

        Raises:
            FormatError: the stream is longer than what was read from it.
        """
        needed = self.total_bits + self.coded * _LOSS_BITS + 16
        if self._length * 8 > needed:
            raise FormatError(
                f"stream: got {self._length} bytes, expected at most {math.ceil(needed / 8)} "
                "for the symbols in it; damaged, or not for this class"
            )
