"""The entropy coder on its way out: symbols on a tape, and their words."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from epigram.codec.coder import STATE_BITS, WORD, Coder
from epigram.codec.native import Kit, plain
from epigram.codec.range_coder import CODED, DRY, LOW, MODE, POSITION, RANGE, WRITE

_WORD_BITS = 32
_TAPE = 1 << 12


class Writer(Coder):
    """Collects symbols; with ``dry=True`` only their ideal code length."""

    def __init__(self, kit: Kit | None = None, *, dry: bool = False) -> None:
        super().__init__(kit or plain(), DRY if dry else WRITE)
        self._words: Any = self.kit.zeros(_TAPE)
        self._packed = self.kit.state([0, WORD, 0])

    def use(self, kit: Kit) -> None:
        super().use(kit)
        self._words, self._packed = kit.array(self._words), kit.state(self._packed)

    def _make_room(self, most: int) -> None:
        if self._s[MODE] == WRITE and int(self._s[POSITION]) + most > len(self._data):
            self._pack()
            if most > len(self._data):
                self._data = np.empty(max(most, _TAPE), np.int64)

    def _pack(self) -> None:
        """The symbols of the tape as words."""
        count = int(self._s[POSITION])
        short = int(self._packed[POSITION]) + count + 1 - len(self._words)
        if short > 0:
            more = self.kit.zeros(short + len(self._words))
            self._words = (
                np.concatenate([self._words, more]) if self.kit.is_compiled else self._words + more
            )
        self.kit.pack(self._packed, self._words, self.kit.array(self._data[:count]), count)
        self._s[POSITION] = 0

    def play(self, tape: Tape) -> None:
        """Write what a tape holds, accounted to the same sections."""
        if self._s[MODE] == WRITE:
            count = len(tape.symbols)
            self._make_room(count)
            start = int(self._s[POSITION])
            self._data[start : start + count] = tape.symbols
            self._s[POSITION] += count
        self._s[CODED] += tape.coded
        for name, bits in tape.bits.items():
            self.section(name)
            self._tally[0] += bits

    def finish(self) -> bytes:
        """The fewest bytes that, followed by zeros, decode to what was written."""
        assert self._s[MODE] == WRITE
        self._pack()
        words = int(self._packed[POSITION])
        low, width = int(self._packed[LOW]) & WORD, int(self._packed[RANGE]) & WORD
        before = np.array(self._words[:words], dtype=">u4").tobytes()
        start = int.from_bytes(before, "big") << STATE_BITS | low
        drop = STATE_BITS // 8
        while -(-start >> 8 * drop) << 8 * drop >= start + width:
            drop -= 1
        kept = words * (_WORD_BITS // 8) + STATE_BITS // 8 - drop
        number: int = -(-start >> 8 * drop)
        return number.to_bytes(kept, "big")


class Tape(Writer):
    """A writer whose symbols are played to another one."""

    def _make_room(self, most: int) -> None:
        room = int(self._s[POSITION]) + most
        if room > len(self._data):
            more = np.empty(max(room, _TAPE), np.int64)
            self._data = np.concatenate([self._data[: int(self._s[POSITION])], more])

    @property
    def symbols(self) -> NDArray[np.int64]:
        """What is on it."""
        out: NDArray[np.int64] = self._data[: int(self._s[POSITION])]
        return out
