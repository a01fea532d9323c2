"""The integers of one tensor as a stream: all zero, scaled tables, or, in small files, mixed contexts.

A writer of a small file tries the models that are open to it and takes the shortest; in larger files the
scaled tables are always taken.
"""

from __future__ import annotations

import copy

import numpy as np
from numpy.typing import NDArray

from epigram.codec.bank import mean_of
from epigram.codec.coder import Coder, Flag, Writer
from epigram.codec.first_symbols import choose
from epigram.codec.mixing import MOST_SYMBOLS, Mixer, code_mixed
from epigram.codec.scaled import (
    Plan,
    ScaledStates,
    Shape,
    bucket_of,
    code_scaled,
    grid_of,
    plan,
)
from epigram.errors import FormatError

TRIED = 1 << 16
"""A writer tries models in files of at most so many symbols."""
MOST_MIXED = 1 << 16
"""Symbols of a file under mixed contexts, at most."""


class SymbolStates:
    """What the tensors of a file share. ``tries``: is the writer to look for the shortest model?"""

    def __init__(self, *, tries: bool = False) -> None:
        self.tries = tries
        self.some, self.mixed = Flag(ones=2), Flag()
        self.scaled, self.mixer = ScaledStates(), Mixer()
        self.used = 0

    def bits(self, values: NDArray[np.int32], shape: Shape) -> float:
        """What a tensor would cost next; nothing is coded or learned."""
        flat = values.ravel()
        if not flat.any():
            return 1.0
        if len(flat) > MOST_SYMBOLS:
            return self._trial(flat, shape, False)
        return min(self._trial(flat, shape, mixed) for mixed in (False, True))

    def _is_mixed(self, values: NDArray[np.int32], shape: Shape) -> bool:
        if not self.tries or len(values) > MOST_SYMBOLS or self.used + len(values) > MOST_MIXED:
            return False
        return self._trial(values, shape, True) < self._trial(values, shape, False)

    def _trial(self, values: NDArray[np.int32], shape: Shape, mixed: bool) -> float:
        writer, states = Writer(dry=True), copy.deepcopy(self)
        states.code_as(writer, "", values, shape, mixed)
        return writer.total_bits

    def code(
        self, coder: Coder, label: str, values: NDArray[np.int32] | None, shape: Shape
    ) -> NDArray[np.int32]:
        """The symbols of ``shape``, flat, and the parameters of their model; no symbols, no bits.

        ``label`` is the section of the account they belong to: kind, colon, name of the tensor.
        """
        if 0 in shape:
            return np.zeros(0, dtype=np.int32)
        mixed = None
        if values is not None and values.any():
            mixed = self._is_mixed(values, shape)
        return self.code_as(coder, label, values, shape, mixed)

    def code_as(
        self,
        coder: Coder,
        label: str,
        values: NDArray[np.int32] | None,
        shape: Shape,
        mixed: bool | None,
    ) -> NDArray[np.int32]:
        """As ``code``, the model decided by the caller; a reader says None."""
        count = int(np.prod(shape, dtype=np.int64))
        coder.section("scales")
        if not coder.flag(self.some, None if values is None else int(values.any())):
            return np.zeros(count, dtype=np.int32)
        name = label.partition(":")[2]
        if coder.flag(self.mixed, None if mixed is None else int(mixed)):
            self.used += count
            if count > MOST_SYMBOLS or self.used > MOST_MIXED:
                raise FormatError(
                    f"{name}: got {count} symbols under mixed contexts, {self.used} in the file; expected at "
                    f"most {MOST_SYMBOLS} and {MOST_MIXED}"
                )
            size = None if values is None else bucket_of(np.abs(values.astype(np.int64)))
            mean = mean_of(self.scaled.code_bucket(coder, label, size)) >> 6
            coder.section(label)
            given = None if values is None else values.tolist()
            width = shape[-1] if len(shape) > 3 else 1
            out = np.array(
                code_mixed(coder, self.mixer, given, grid_of(shape), width, mean), np.int64
            )
        else:
            decided: Plan | None = None
            if values is not None:
                decided = plan(values.astype(np.int64), shape)
            out = code_scaled(coder, self.scaled, label, decided, shape)
        if not -(1 << 31) <= out.min() <= out.max() < 1 << 31:
            raise FormatError(f"{name}: got a symbol beyond 32 bits")
        return out.astype(np.int32)


def tensor_bits(symbols: NDArray[np.int32]) -> float:
    """About the code length in bits of one tensor by itself, step size and shape apart.

    An upper estimate without a trial: adaptive counts of magnitudes and signs, no contexts.
    """
    return choose(np.asarray(symbols)).bits if np.size(symbols) else 0.0
