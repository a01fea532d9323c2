"""The integers of one tensor as a stream: all zero, scaled tables, or, in small files, mixed contexts.

A writer of a small file tries the models that are open to it and takes the shortest; in larger files the
scaled tables are always taken.
"""

from __future__ import annotations

from copy import copy

import numpy as np
from numpy.typing import NDArray

from epigram.codec.coder import Coder, Flag
from epigram.codec.first_symbols import choose
from epigram.codec.mixing import MOST_SYMBOLS, Mixer, code_mixed
from epigram.codec.native import Kit, plain
from epigram.codec.scaled import (
    Plan,
    ScaledStates,
    Shape,
    bucket_of,
    code_scaled,
    grid_of,
    plan,
)
from epigram.codec.tables import mean_of
from epigram.codec.writer import Tape, Writer
from epigram.errors import FormatError

TRIED = 1 << 16
"""A writer tries models in files of at most so many symbols."""
MOST_MIXED = 1 << 16
"""Symbols of a file under mixed contexts, at most."""


class SymbolStates:
    """What the tensors of a file share. ``tries``: is the writer to look for the shortest model?"""

    def __init__(self, *, tries: bool = False, kit: Kit | None = None) -> None:
        self.tries, self.kit = tries, kit or plain()
        self.some, self.mixed = Flag(ones=2), Flag()
        self.scaled, self.mixer = ScaledStates(), Mixer()
        self.used = 0

    def fork(self, *, mixed: bool) -> SymbolStates:
        """One that knows as much and learns apart; what only the other model writes to is shared."""
        out = copy(self)
        out.some, out.mixed = self.some.fork(), self.mixed.fork()
        out.scaled = self.scaled.fork(learns=not mixed)
        out.mixer = self.mixer.fork(self.kit) if mixed else self.mixer
        return out

    def bits(self, values: NDArray[np.int32], shape: Shape) -> float:
        """What a tensor would cost next; nothing is coded or learned."""
        flat = values.ravel()
        return self._shortest("", flat, shape)[0].total_bits if flat.any() else 1.0

    def _shortest(
        self, label: str, values: NDArray[np.int32], shape: Shape
    ) -> tuple[Tape, SymbolStates]:
        """The tensor under the model that is cheapest for it, and the states after it."""
        small = len(values) <= MOST_SYMBOLS and self.used + len(values) <= MOST_MIXED
        tried = []
        for mixed in (False, True) if small else (False,):
            tape, states = Tape(self.kit), self.fork(mixed=mixed)
            states.code_as(tape, label, values, shape, mixed)
            tried.append((tape, states))
        return min(tried, key=lambda one: one[0].total_bits)

    def code(
        self, coder: Coder, label: str, values: NDArray[np.int32] | None, shape: Shape
    ) -> NDArray[np.int32]:
        """The symbols of ``shape``, flat, and the parameters of their model; no symbols, no bits.

        ``label`` is the section of the account they belong to: kind, colon, name of the tensor.
        """
        if 0 in shape:
            return np.zeros(0, dtype=np.int32)
        if values is None or not self.tries or not values.any():
            return self.code_as(coder, label, values, shape, None if values is None else False)
        assert isinstance(coder, Writer)
        tape, states = self._shortest(label, values, shape)
        coder.play(tape)
        vars(self).update(vars(states))
        return values

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
            given = None if values is None else values.astype(np.int64)
            width = shape[-1] if len(shape) > 3 else 1
            out = code_mixed(coder, self.mixer, given, grid_of(shape), width, mean)
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
