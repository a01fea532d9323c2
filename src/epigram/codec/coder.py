"""The entropy coder: integer tables in, bytes out, and back.

A ``Coder`` is either a ``Writer`` or a ``Reader``. Code that describes a part of the file calls it in
the same way for both: a writer is given values and returns them; a reader ignores them and returns
what the file says. So each part of the format is written down once. What is coded symbol by symbol is done by
the kernels of its kit (``native``), on its state; the range coder itself is in ``range_coder``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from epigram.codec.native import Kit, plain
from epigram.codec.range_coder import (
    BROKEN,
    CODED,
    DRY,
    ERROR,
    LOW,
    MODE,
    POSITION,
    PRECISION,
    RANGE,
    READ,
    TOTAL,
    WRITE,
)
from epigram.errors import FormatError

_WORD_BITS, _STATE_BITS = 32, 64
_LOSS_BITS = 0.006  # of a symbol, at most: the range has at least 8 bits more than a probability
_WORD = (1 << _STATE_BITS) - 1
_TAPE = 1 << 12

Symbols = NDArray[np.int32]


class Flag:
    """An adaptive bit: how often it was 0 and 1."""

    __slots__ = ("ones", "zeros")

    def __init__(self, zeros: int = 0, ones: int = 0) -> None:
        self.zeros, self.ones = zeros, ones

    def fork(self) -> Flag:
        """One that knows as much and learns apart."""
        return Flag(self.zeros, self.ones)


class Coder:
    """What both directions have in common. ``bits`` holds the ideal code length of each section.

    Args:
        kit: the form of the kernels; what a coder is used with must be of the same.
        mode: what the kernels do: ``READ``, ``WRITE`` or ``DRY``.
    """

    def __init__(self, kit: Kit, mode: int) -> None:
        self.kit = kit
        self._s = kit.state([0, _WORD, 0, 0, mode, 0])
        self._data: Any = np.zeros(0, np.int64)
        self._tally = kit.floats(0.0, math.inf, 1.0)
        self._bits: dict[str, float] = {}
        self._section, self._since = "", 0.0

    def use(self, kit: Kit) -> None:
        """Go on in another form."""
        self.kit, self._s, self._tally = kit, kit.state(self._s), kit.floats(*self._tally)

    @property
    def total_bits(self) -> float:
        """The ideal code length so far."""
        return float(self._tally[0])

    @property
    def coded(self) -> int:
        """Symbols so far."""
        return int(self._s[CODED])

    @property
    def bits(self) -> dict[str, float]:
        """Bits of each section so far, in the order in which they were first met."""
        self.section(self._section)
        return {name: bits for name, bits in self._bits.items() if name}

    def section(self, name: str) -> None:
        """What follows is accounted to ``name``."""
        self._bits[self._section] = (
            self._bits.get(self._section, 0.0) + self.total_bits - self._since
        )
        self._section, self._since = name, self.total_bits
        self._bits.setdefault(name, 0.0)

    def room_for(self, bits: float) -> None:
        """Refuse what the stream cannot hold, before memory is taken for it."""
        if self.total_bits + bits > self._tally[1]:
            self._too_long(bits)

    def _too_long(self, bits: float) -> NoReturn:
        raise FormatError(
            f"stream: got symbols that need {(self.total_bits + bits) / 8:.0f} bytes, "
            f"expected at most the {(self._tally[1] - _STATE_BITS) / 8:.0f} there are"
        )

    def run(self, call: Callable[..., Any], most: int, *arguments: Any) -> None:
        """Let a kernel of the kit code at most ``most`` symbols."""
        self._make_room(most)
        call(self._s, self._data, self._tally, *arguments)
        if self._s[ERROR]:
            self._refuse()

    def _one(self, call: Callable[..., int], *arguments: int) -> int:
        """The same of a kernel that codes a single symbol, and says by -1 that there is none."""
        self._make_room(1)
        out = call(self._s, self._data, self._tally, *arguments)
        if out < 0:
            self._refuse()
        return out

    def _refuse(self) -> NoReturn:
        if self._s[ERROR] != BROKEN:
            self._too_long(0.0)
        raise FormatError(
            "stream: got bytes that no encoder writes; the file is damaged, or dense_shapes "
            "belong to another network"
        )

    def _make_room(self, most: int) -> None:
        """Where a writer puts symbols."""

    def table(
        self, frequencies: Sequence[int] | NDArray[np.int64], values: Symbols | None, count: int
    ) -> Symbols:
        """Symbols 0..n-1 under one table of positive integers that sum to 2**24."""
        size, sums = len(frequencies), [0]
        for frequency in frequencies:
            sums.append(sums[-1] + int(frequency))
        out = self.kit.zeros(count) if values is None else self.kit.array(values)
        seen = self.kit.zeros(size)
        self.run(self.kit.code_table, count, self.kit.array(sums), size, seen, out, count)
        return np.asarray(out, dtype=np.int32)

    def uniform(self, size: int, values: Symbols | None, count: int) -> Symbols:
        """Symbols 0..size-1, 1 <= size <= 2**16, equally likely (the last takes the remainder)."""
        self.room_for(count * (PRECISION - math.log2(TOTAL // size)) if size > 1 else 0.0)
        out = self.kit.zeros(count) if values is None else self.kit.array(values)
        self.run(self.kit.code_evens, count, size, out, count)
        return np.asarray(out, dtype=np.int32)

    # -- single values, built on the two above ---------------------------------------------------

    def flag(self, state: Flag, value: int | None) -> int:
        """One adaptive bit; ``state`` learns it."""
        bit = self._one(self.kit.code_flag, state.zeros, state.ones, value or 0)
        if bit:
            state.ones += 1
        else:
            state.zeros += 1
        return bit

    def below(self, size: int, value: int | None) -> int:
        """One integer 0..size-1, equally likely; beyond 2**16, the high part and then 16 bits."""
        if size > 1 << 16:
            high = self.below(((size - 1) >> 16) + 1, None if value is None else value >> 16)
            low = self.below(1 << 16, None if value is None else value & 0xFFFF)
            if (high << 16) + low >= size:
                raise FormatError(f"stream: got {(high << 16) + low}, expected less than {size}")
            return (high << 16) + low
        if size == 1:
            return 0
        return self._one(self.kit.code_one, size, value or 0)

    def natural(self, states: list[Flag], value: int | None) -> int:
        """One integer 0..2**32-2: bit length of value + 1 in unary flags, then the bits below it.

        ``states`` are the unary flags, one per length; the last one is used for all longer ones.
        """
        target = None if value is None else (value + 1).bit_length() - 1
        length = 0
        while self.flag(
            states[min(length, len(states) - 1)], None if target is None else int(length < target)
        ):
            length += 1
            if length > 31:
                raise FormatError("stream: an integer of more than 32 bits")
        rest = self.below(1 << length, None if value is None else value + 1 - (1 << length))
        return (1 << length) + rest - 1

    def signed(self, states: list[Flag], value: int | None) -> int:
        """One integer of either sign, as 0, -1, 1, -2, 2 ... numbered from 0."""
        given = None if value is None else (2 * value if value >= 0 else -2 * value - 1)
        code = self.natural(states, given)
        return -((code + 1) >> 1) if code & 1 else code >> 1


class Writer(Coder):
    """Collects symbols; with ``dry=True`` only their ideal code length."""

    def __init__(self, kit: Kit | None = None, *, dry: bool = False) -> None:
        super().__init__(kit or plain(), DRY if dry else WRITE)
        self._words: Any = self.kit.zeros(_TAPE)
        self._packed = self.kit.state([0, _WORD, 0])

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
        low, width = int(self._packed[LOW]) & _WORD, int(self._packed[RANGE]) & _WORD
        before = np.array(self._words[:words], dtype=">u4").tobytes()
        start = int.from_bytes(before, "big") << _STATE_BITS | low
        drop = _STATE_BITS // 8
        while -(-start >> 8 * drop) << 8 * drop >= start + width:
            drop -= 1
        kept = words * (_WORD_BITS // 8) + _STATE_BITS // 8 - drop
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


class Reader(Coder):
    """Reads what a ``Writer`` wrote; anything else is a ``FormatError`` or harmless symbols."""

    def __init__(self, data: bytes, kit: Kit | None = None) -> None:
        super().__init__(kit or plain(), READ)
        self._length = len(data)
        self._tally[1] = 8.0 * len(data) + _STATE_BITS
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
