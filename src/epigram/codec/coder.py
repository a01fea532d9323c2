"""What the two directions of the entropy coder have in common: integer tables in, symbols out.

A ``Coder`` is either a ``Writer`` (``writer``) or a ``Reader`` (``reader``). Code that describes a part of the file calls it in
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

from epigram.codec.native import Kit
from epigram.codec.range_coder import (
    BROKEN,
    CODED,
    ERROR,
    PRECISION,
    TOTAL,
)
from epigram.errors import FormatError

STATE_BITS = 64
WORD = (1 << STATE_BITS) - 1

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
        self._s = kit.state([0, WORD, 0, 0, mode, 0])
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
            f"expected at most the {(self._tally[1] - STATE_BITS) / 8:.0f} there are"
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
