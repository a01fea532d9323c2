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
from functools import lru_cache
from typing import Any, NoReturn

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

    def fork(self) -> Flag:
        """One that knows as much and learns apart."""
        return Flag(self.zeros, self.ones)

    def table(self) -> tuple[int, int]:
        """Frequencies of 0 and 1."""
        one = ((2 * self.ones + 1) << PRECISION) // (2 * (self.zeros + self.ones) + 2)
        one = min(max(one, 1), TOTAL - 1)
        return TOTAL - one, one


class Frequencies:
    """Positive integers in the proportions of some counts, their sum 2**24: a table ready for use.

    Each is counts * (2**24 - n) div their sum, plus 1; what rounding leaves goes to the first.
    """

    __slots__ = ("bits", "model")

    def __init__(self, counts: NDArray[np.int64]) -> None:
        each = counts * (TOTAL - len(counts)) // counts.sum() + 1
        each[0] += TOTAL - each.sum()
        self.bits = PRECISION - np.log2(each)
        self.model = stream.model.Categorical((each - 1).astype(np.float64), perfect=False)


@lru_cache(maxsize=4096)
def _flag_model(zeros: int, ones: int) -> tuple[Any, float, float]:
    zero, one = Flag(zeros, ones).table()
    model = stream.model.Categorical(np.array([zero - 1.0, one - 1.0]), perfect=False)
    return model, PRECISION - math.log2(zero), PRECISION - math.log2(one)


@lru_cache(maxsize=1 << 14)
def _bit_model(probability: int) -> tuple[Any, float, float]:
    one = probability << PRECISION - 16
    model = stream.model.Categorical(np.array([TOTAL - one - 1.0, one - 1.0]), perfect=False)
    return model, PRECISION - math.log2(TOTAL - one), PRECISION - math.log2(one)


@lru_cache(maxsize=64)
def _uniform_model(size: int) -> Any:
    return stream.model.Uniform(size)


class Coder(ABC):
    """What both directions have in common. ``bits`` holds the ideal code length of each section."""

    def __init__(self) -> None:
        self.total_bits = 0.0
        self.coded = 0
        self._most_bits = math.inf
        self._bits: dict[str, float] = {}
        self._section, self._since = "", 0.0

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

    def _account(self, bits: float, count: int) -> None:
        """Add to what has been coded; a reader refuses what the stream cannot hold."""
        self.coded += count
        self.total_bits += bits
        if self.total_bits > self._most_bits:
            self._too_long(0.0)

    def _room_for(self, bits: float) -> None:
        if self.total_bits + bits > self._most_bits:
            self._too_long(bits)

    def _too_long(self, bits: float) -> NoReturn:
        raise FormatError(
            f"stream: got symbols that need {(self.total_bits + bits) / 8:.0f} bytes, "
            f"expected at most the {(self._most_bits - _STATE_BITS) / 8:.0f} there are"
        )

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
        return out

    def block(
        self, frequencies: Frequencies, values: Symbols | None, count: int
    ) -> tuple[Symbols, NDArray[np.int64]]:
        """Symbols under one table, and how often each of them occurred."""
        out = self._run(frequencies.model, values, count)
        seen = np.bincount(out, minlength=len(frequencies.bits))
        self._account(float(seen @ frequencies.bits), count)
        return out, seen

    def uniform(self, size: int, values: Symbols | None, count: int) -> Symbols:
        """Symbols 0..size-1, 1 <= size <= 2**16, equally likely (the last takes the remainder)."""
        if size == 1:
            return np.zeros(count, dtype=np.int32)
        bits = count * (PRECISION - math.log2(TOTAL // size))
        self._room_for(bits)
        out = self._run(_uniform_model(size), values, count)
        self._account(bits, count)
        return out

    # -- single values, built on the two above ---------------------------------------------------

    def flag(self, state: Flag, value: int | None) -> int:
        """One adaptive bit; ``state`` learns it."""
        model, zero_bits, one_bits = _flag_model(state.zeros, state.ones)
        bit = self._run_one(model, value)
        if bit:
            state.ones += 1
            self._account(one_bits, 1)
        else:
            state.zeros += 1
            self._account(zero_bits, 1)
        return bit

    def bit(self, probability: int, value: int | None) -> int:
        """One bit that is 1 with ``probability`` / 65536, 0 < probability < 65536; 0 comes first."""
        model, zero_bits, one_bits = _bit_model(probability)
        bit = self._run_one(model, value)
        self._account(one_bits if bit else zero_bits, 1)
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
        out = self._run_one(_uniform_model(size), value)
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

    def play(self, tape: Tape) -> None:
        """Write what a tape holds, accounted to the same sections."""
        if self._encoder is not None:
            for model, values in tape.calls:
                self._encoder.encode(values, model)
        self.coded += tape.coded
        for name, bits in tape.bits.items():
            self.section(name)
            self._account(bits, 0)

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


class Tape(Writer):
    """A dry writer whose symbols can be played to another one."""

    def __init__(self) -> None:
        super().__init__(dry=True)
        self.calls: list[tuple[Any, Symbols | int | None]] = []

    def _run(self, model: Any, values: Symbols | None, count: int) -> Symbols:
        self.calls.append((model, values))
        return super()._run(model, values, count)

    def _run_one(self, model: Any, value: int | None) -> int:
        self.calls.append((model, value))
        return super()._run_one(model, value)


class Reader(Coder):
    """Reads what a ``Writer`` wrote; anything else is a ``FormatError`` or harmless symbols."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._length = len(data)
        self._most_bits = 8 * len(data) + _STATE_BITS
        padded = data + bytes(-len(data) % 4)
        self._decoder = stream.queue.RangeDecoder(np.frombuffer(padded, ">u4").astype(np.uint32))

    def _run(self, model: Any, values: Symbols | None, count: int) -> Symbols:
        del values
        try:
            out: Symbols = self._decoder.decode(model, count)
        except BaseException as error:
            raise _refusal(error) from error
        return out

    def _run_one(self, model: Any, value: int | None) -> int:
        del value
        try:
            return int(self._decoder.decode(model))
        except BaseException as error:
            raise _refusal(error) from error

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


def _refusal(error: BaseException) -> BaseException:
    """What a failure of the decoder means; the entropy coder's panics are not ``Exception``s."""
    if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
        return error
    return FormatError(
        "stream: got bytes that no encoder writes; the file is damaged, or dense_shapes "
        "belong to another network"
    )
