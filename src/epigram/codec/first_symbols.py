"""The integers of one tensor in files of version 1, which are still read; and what they would cost there.

Model 0: all zero. Model 1: magnitudes >> shift under an adaptive alphabet (long ones escape), the
``shift`` low bits as they are, signs as they are or under an adaptive bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epigram.codec.adaptive import (
    Alphabet,
    adaptive_bits,
    code_adaptive,
    code_with,
    uniform_bits,
)
from epigram.codec.coder import Coder, Flag, Symbols
from epigram.codec.escapes import LENGTHS
from epigram.errors import FormatError

ZEROS, ADAPTIVE = 0, 1
RAW_SIGNS, ADAPTIVE_SIGNS = 0, 1
ESCAPE = 20
MEMORY = 12
_MAX_SHIFT = 31
_PARAMETER_BITS = 4.0


@dataclass(frozen=True)
class Choice:
    """A model, its parameters and what it is expected to cost."""

    model: int
    shift: int = 0
    signs: int = RAW_SIGNS
    bits: float = 1.0


class FirstStates:
    """What the tensors of a file share: how likely each model and parameter is."""

    def __init__(self) -> None:
        self.model, self.signs = [Flag(), Flag(zeros=2)], Flag()
        self.shift = [Flag() for _ in range(4)]
        self.magnitudes = Alphabet(ESCAPE)


def choose(symbols: NDArray[np.int32]) -> Choice:
    """The cheapest model for these symbols."""
    flat = symbols.ravel()
    if not flat.any():
        return Choice(ZEROS)
    magnitudes = np.abs(flat.astype(np.int64))
    nonzero = int(np.count_nonzero(flat))
    negative = int(np.count_nonzero(flat < 0))
    sign_bits = adaptive_bits(np.array([nonzero - negative, negative]))
    signs = ADAPTIVE_SIGNS if sign_bits < nonzero else RAW_SIGNS
    best: Choice | None = None
    first = max(0, int(magnitudes.sum() // (4 * len(flat))).bit_length() - 1)
    for shift in range(first, min(first + 3, _MAX_SHIFT + 1)):
        bits = _magnitude_bits(magnitudes >> shift) + shift * len(flat)
        bits += min(sign_bits, nonzero) + _PARAMETER_BITS
        if best is None or bits < best.bits:
            best = Choice(ADAPTIVE, shift, signs, bits)
    assert best is not None
    return best


def code_first_symbols(
    coder: Coder,
    states: FirstStates,
    label: str,
    values: NDArray[np.int32] | None,
    count: int,
) -> NDArray[np.int32]:
    """``count`` symbols and the parameters of their model; 0 symbols take no bits.

    ``label`` is the section of the account they belong to: kind, colon, name of the tensor.
    """
    if count == 0:
        return np.zeros(0, dtype=np.int32)
    choice = None if values is None else choose(values)
    coder.section("scales")
    model = coder.natural(states.model, None if choice is None else choice.model)
    if model > ADAPTIVE:
        raise FormatError(
            f"{_tensor(label)}: got symbol model {model}, expected at most {ADAPTIVE}; it was written by a "
            "later release of epigram, or is damaged"
        )
    if model == ZEROS:
        return np.zeros(count, dtype=np.int32)
    shift = coder.natural(states.shift, None if choice is None else choice.shift)
    if shift > _MAX_SHIFT:
        raise FormatError(f"{_tensor(label)}: got shift {shift}, expected at most {_MAX_SHIFT}")
    signs = coder.flag(states.signs, None if choice is None else choice.signs)
    coder.section(label)
    wide = None if values is None else np.abs(values.astype(np.int64))
    magnitudes = _code_magnitudes(coder, states.magnitudes, shift, wide, count)
    states.magnitudes.fade(MEMORY)
    nonzero = np.flatnonzero(magnitudes)
    minus = None if values is None else (values[nonzero] < 0).astype(np.int32)
    minus = _code_signs(coder, signs, minus, len(nonzero))
    magnitudes[nonzero[minus == 1]] *= -1
    if len(nonzero) and not -(1 << 31) <= magnitudes.min() <= magnitudes.max() < 1 << 31:
        raise FormatError(f"{_tensor(label)}: got a symbol beyond 32 bits")
    return magnitudes.astype(np.int32, copy=False)


def _tensor(label: str) -> str:
    return label.partition(":")[2]


def _code_magnitudes(
    coder: Coder, alphabet: Alphabet, shift: int, values: NDArray[np.int64] | None, count: int
) -> NDArray[np.signedinteger[Any]]:
    """Magnitudes; 32 bits wide where nothing escapes and nothing is shifted."""
    high = None if values is None else values >> shift
    short = None if high is None else np.minimum(high, ESCAPE).astype(np.int32)
    narrow = code_with(coder, alphabet, short, count)
    escaped = np.flatnonzero(narrow == ESCAPE)
    if not len(escaped) and not shift:
        return narrow
    out = narrow.astype(np.int64)
    if len(escaped):
        beyond = None if high is None else high[escaped] - ESCAPE
        out[escaped] += _code_escapes(coder, beyond, len(escaped))
    if shift:
        out <<= shift
        out |= uniform_bits(coder, shift, values, count)
    return out


def _code_escapes(coder: Coder, values: NDArray[np.int64] | None, count: int) -> NDArray[np.int64]:
    """Integers >= 0: bit length of value + 1 under an adaptive alphabet, then the bits below it."""
    lengths = None if values is None else _bit_length(values + 1) - 1
    lengths = code_adaptive(coder, LENGTHS, lengths, count)
    out = (np.int64(1) << lengths.astype(np.int64)) - 1
    for length in np.unique(lengths).tolist():
        where = np.flatnonzero(lengths == length)
        given = None if values is None else values[where] + 1 - (1 << length)
        out[where] += uniform_bits(coder, length, given, len(where))
    return out


def _code_signs(coder: Coder, signs: int, values: Symbols | None, count: int) -> Symbols:
    if signs == ADAPTIVE_SIGNS:
        return code_adaptive(coder, 1, values, count)
    return coder.uniform(2, values, count)


def _bit_length(values: NDArray[np.int64]) -> Symbols:
    return np.frexp(values.astype(np.float64))[1].astype(np.int32)


def _magnitude_bits(high: NDArray[np.int64]) -> float:
    bits = adaptive_bits(np.bincount(np.minimum(high, ESCAPE), minlength=ESCAPE + 1))
    beyond = high[high >= ESCAPE] - ESCAPE
    if len(beyond):
        lengths = _bit_length(beyond + 1) - 1
        bits += adaptive_bits(np.bincount(lengths, minlength=LENGTHS + 1)) + float(lengths.sum())
    return bits
