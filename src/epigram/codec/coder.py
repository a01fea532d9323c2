"""The entropy coder: integer tables in, bytes out, and back.

A ``Coder`` is either a ``Writer`` or a ``Reader``. Code that describes a part of the file calls it in
the same way for both: a writer is given values and returns them; a reader ignores them and returns
what the file says. So each part of the format is written down once.

Underneath is constriction's range coder (32-bit words, 64-bit state, probabilities of 24 bits).
``constriction.stream.model.Categorical(p, perfect=False)`` turns floats into integers by
``left[i] = floor(scale * sum(p[:i])) + i`` with ``scale = (2**24 - n) / sum(p)``; for
``p = frequencies - 1`` the scale is exactly 1 and the table is exactly the integers intended.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from constriction import stream
from numpy.typing import NDArray

from epigram.errors import FormatError

PRECISION = 24
TOTAL = 1 << PRECISION
_WORD_BITS, _STATE_BITS = 32, 64
_LOSS_BITS = 0.006  # of a symbol, at most: the range has at least 8 bits more than a probability

Symbols = NDArray[np.int32]


class Flag:
    """An adaptive bit: two counts, and the table that follows from them."""

    __slots__ = ("ones", "zeros")

    def __init__(self, zeros: int = 0, ones: int = 0) -> None:
        self.zeros, self.ones = zeros, ones

    def table(self) -> tuple[int, int]:
        """Frequencies of 0 and 1."""
        one = ((2 * self.ones + 1) << PRECISION) // (2 * (self.zeros + self.ones) + 2)
        one = min(max(one, 1), TOTAL - 1)
        return TOTAL - one, one


class Coder(ABC):
    """What both directions have in common. ``bits`` holds the ideal code length of each section."""

    def __init__(self) -> None:
        self.bits: dict[str, float] = {}
        self.total_bits = 0.0
        self.coded = 0
        self._section = ""

    def section(self, name: str) -> None:
        """What follows is accounted to ``name``."""
        self._section = name
        self.bits.setdefault(name, 0.0)

    def _account(self, bits: float, count: int) -> None:
        self.bits[self._section] = self.bits.get(self._section, 0.0) + bits
        self.coded += count
        self.total_bits += bits

    def _room_for(self, bits: float) -> None:
        """A reader refuses to read what the stream cannot hold."""
        del bits

    @abstractmethod
    def _run(self, model: Any, values: Symbols | None, count: int) -> Symbols:
        """Code ``count`` symbols with a constriction model."""

    @abstractmethod
    def _run_one(self, model: Any, value: int | None) -> int:
        """Code a single symbol, quicker than an array of one."""

    def table(
        self, frequencies: Sequence[int] | NDArray[np.int64], values: Symbols | None, count: int
    ) -> Symbols:
        """Symbols 0..n-1 under one table of positive integers that sum to 2**24."""
        weights = np.asarray(frequencies, dtype=np.float64)
        model = stream.model.Categorical(weights - 1.0, perfect=False)
        out = self._run(model, values, count)
        if count == 1:
            self._account(PRECISION - math.log2(weights[out[0]]), 1)
        else:
            seen = np.bincount(out, minlength=len(weights))
            self._account(float(seen @ (PRECISION - np.log2(weights))), count)
        self._room_for(0.0)
        return out

    def uniform(self, size: int, values: Symbols | None, count: int) -> Symbols:
        """Symbols 0..size-1, 1 <= size <= 2**16, equally likely (the last takes the remainder)."""
        if size == 1:
            return np.zeros(count, dtype=np.int32)
        bits = count * (PRECISION - math.log2(TOTAL // size))
        self._room_for(bits)
        out = self._run(stream.model.Uniform(size), values, count)
        self._account(bits, count)
        return out

    # -- single values, built on the two above ---------------------------------------------------

    def flag(self, state: Flag, value: int | None) -> int:
        """One adaptive bit; ``state`` learns it."""
        zero, one = state.table()
        model = stream.model.Categorical(np.array([zero - 1.0, one - 1.0]), perfect=False)
        bit = self._run_one(model, value)
        self._account(PRECISION - math.log2(one if bit else zero), 1)
        self._room_for(0.0)
        state.ones += bit
        state.zeros += 1 - bit
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
        bits = PRECISION - math.log2(TOTAL // size)
        self._room_for(bits)
        out = self._run_one(stream.model.Uniform(size), value)
        self._account(bits, 1)
        return out

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

    def __init__(self, *, dry: bool = False) -> None:
        super().__init__()
        self._encoder = None if dry else stream.queue.RangeEncoder()

    def _run(self, model: Any, values: Symbols | None, count: int) -> Symbols:
        assert values is not None and len(values) == count
        if self._encoder is not None:
            self._encoder.encode(values, model)
        return values

    def _run_one(self, model: Any, value: int | None) -> int:
        assert value is not None
        if self._encoder is not None:
            self._encoder.encode(value, model)
        return value

    def finish(self) -> bytes:
        """The fewest bytes that, followed by zeros, decode to what was written."""
        assert self._encoder is not None
        words, (lower, width) = self._encoder.pos()
        sealed = self._encoder.get_compressed()
        spare = words * _WORD_BITS + _STATE_BITS - len(sealed) * _WORD_BITS
        inside = int.from_bytes(sealed.astype(">u4").tobytes(), "big") << spare
        start = inside - ((inside - lower) % (1 << _STATE_BITS))
        drop = _STATE_BITS // 8
        while -(-start >> 8 * drop) << 8 * drop >= start + width:
            drop -= 1
        kept = words * (_WORD_BITS // 8) + _STATE_BITS // 8 - drop
        number: int = -(-start >> 8 * drop)
        return number.to_bytes(kept, "big")


class Reader(Coder):
    """Reads what a ``Writer`` wrote; anything else is a ``FormatError`` or harmless symbols."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._length = len(data)
        padded = data + bytes(-len(data) % 4)
        self._decoder = stream.queue.RangeDecoder(np.frombuffer(padded, ">u4").astype(np.uint32))

    def _run(self, model: Any, values: Symbols | None, count: int) -> Symbols:
        del values
        out: Symbols = self._guarded(model, count)
        return out

    def _run_one(self, model: Any, value: int | None) -> int:
        del value
        return int(self._guarded(model))

    def _guarded(self, *arguments: Any) -> Any:
        try:
            return self._decoder.decode(*arguments)
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:
            raise FormatError(
                "stream: got bytes that no encoder writes; the file is damaged, or dense_shapes "
                "belong to another network"
            ) from error

    def _room_for(self, bits: float) -> None:
        if self.total_bits + bits > 8 * self._length + _STATE_BITS:
            raise FormatError(
                f"stream: got symbols that need {(self.total_bits + bits) / 8:.0f} bytes, "
                f"expected at most the {self._length} there are"
            )

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
