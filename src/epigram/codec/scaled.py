"""Model 2: every number under the table of its size, which its row and its column say together.

bucket of a number = the tensor's + its row's + its column's, in quarters of an octave. Rows and columns
cost a small integer each; the tables (``Bank``) are the file's. Numbers that a trellis made are told
by index: all parities first (they give the states, so the grids), then the rest.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from epigram.codec import trellis
from epigram.codec.bank import LARGEST, ONE, Bank, Integers
from epigram.codec.coder import Coder, Flag
from epigram.errors import FormatError

ROWS, COLUMNS, OFFSETS_BUCKET = 1, 2, 24
NO_TRELLIS, CHAIN, LANES = 0, 1, 2
_OFFSET_BITS = 3.5

Shape = tuple[int, ...]


class ScaledStates:
    """What the tensors of a file that use this model share."""

    def __init__(self) -> None:
        self.bank = Bank()
        self.bucket, self.steps = ONE, [Flag() for _ in range(8)]
        self.trellis, self.lanes = Flag(), Flag()
        self.rows, self.columns = Flag(), Flag()
        self.centred, self.centres = Flag(), [Flag() for _ in range(8)]

    def fork(self, *, learns: bool) -> ScaledStates:
        """One that knows as much and, if it ``learns``, has tables of its own; its flags are its own anyway."""
        out = copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Flag):
                setattr(out, name, value.fork())
        out.bank = self.bank.fork() if learns else self.bank
        out.steps = [flag.fork() for flag in self.steps]
        out.centres = [flag.fork() for flag in self.centres]
        return out

    def code_bucket(self, coder: Coder, label: str, bucket: int | None) -> int:
        """The typical size of a tensor's numbers, as a difference to the tensor before."""
        given = None if bucket is None else bucket - self.bucket
        self.bucket += coder.signed(self.steps, given)
        if not 0 <= self.bucket <= LARGEST:
            raise FormatError(
                f"{label.partition(':')[2]}: got a scale of {self.bucket}, expected 0..{LARGEST}"
            )
        return self.bucket


@dataclass(frozen=True)
class Plan:
    """What the encoder decided for one tensor."""

    trellis: int
    centre: int
    bucket: int
    rows: Integers | None
    columns: Integers | None
    numbers: Integers  # flat: the integers less the centre, or the trellis' indices


def grid_of(shape: Shape) -> tuple[int, int, int]:
    """Rows, columns and what shares both: axis 0, axis 1 (the rest where that has one place), the rest."""
    if len(shape) < 2:
        return (1, 1, shape[0] if shape else 1)
    rest = int(np.prod(shape[2:], dtype=np.int64))
    return (shape[0], rest, 1) if shape[1] == 1 else (shape[0], shape[1], rest)


def plan(values: Integers, shape: Shape) -> Plan:
    """Trellis, centre, and the scales of rows and columns that pay for themselves."""
    order, numbers = _indices(values, shape)
    if order == NO_TRELLIS and len(shape) < 2:
        numbers, centre, bucket = _centred(numbers)
        return Plan(order, centre, bucket, None, None, numbers)
    magnitudes = np.abs(numbers).reshape(grid_of(shape)).astype(np.float64)
    rows, columns = _scales(magnitudes)
    return Plan(order, 0, bucket_of(magnitudes), rows, columns, numbers)


def code_scaled(
    coder: Coder, states: ScaledStates, label: str, given: Plan | None, shape: Shape
) -> Integers:
    """The integers of one tensor, flat, with the parameters of their model."""
    coder.section("scales")
    order = coder.flag(states.trellis, None if given is None else int(given.trellis > 0))
    if order and len(shape) > 1:
        order += coder.flag(states.lanes, None if given is None else int(given.trellis == LANES))
    states.code_bucket(coder, label, None if given is None else given.bucket)
    rows, columns, rest = grid_of(shape)
    buckets = np.full((rows, columns), states.bucket, dtype=np.int64)
    if rows > 1 and coder.flag(states.rows, None if given is None else int(given.rows is not None)):
        offsets = None if given is None else given.rows
        buckets += states.bank.signed(coder, ROWS, OFFSETS_BUCKET, offsets, rows)[:, None]
    if columns > 1 and coder.flag(
        states.columns, None if given is None else int(given.columns is not None)
    ):
        offsets = None if given is None else given.columns
        buckets += states.bank.signed(coder, COLUMNS, OFFSETS_BUCKET, offsets, columns)
    centre = 0
    if (
        not order
        and len(shape) < 2
        and coder.flag(states.centred, None if given is None else int(given.centre != 0))
    ):
        unit = unit_of(states.bucket)
        centre = (
            coder.signed(states.centres, None if given is None else given.centre >> unit) << unit
        )
    coder.section(label)
    np.clip(buckets, 0, LARGEST, out=buckets)
    buckets &= -2
    cells = coder.kit.octets(buckets)
    del buckets  # eight bytes for each cell
    count = rows * columns * rest
    numbers = coder.kit.zeros(count) if given is None else coder.kit.array(given.numbers)
    bank = states.bank.array(coder.kit)
    if order:
        lanes = count // shape[0] if order == LANES else 1
        coder.run(coder.kit.code_indices, 7 * count, bank, cells, rest, numbers, lanes)
    else:
        coder.run(coder.kit.code_plain, 6 * count, bank, cells, rest, numbers)
    out = np.asarray(numbers, dtype=np.int64)
    out += centre
    return out


def _indices(values: Integers, shape: Shape) -> tuple[int, Integers]:
    if len(values) < 16 or not values.any():
        return NO_TRELLIS, values
    for order, form in ((CHAIN, (len(values),)), (LANES, shape)):
        if order == LANES and len(shape) < 2:
            continue
        k = trellis.indices(values.reshape(form))
        if k is not None:
            return order, k.ravel()
    return NO_TRELLIS, values


def _centred(numbers: Integers) -> tuple[Integers, int, int]:
    """Numbers less their median, and their bucket, where that saves more than it costs."""
    middle = int(np.median(numbers))
    bucket = bucket_of(np.abs(numbers - middle))
    unit = unit_of(bucket)
    centre = middle >> unit << unit
    saved = len(numbers) * (bucket_of(np.abs(numbers)) - bucket) / 4
    if not centre or saved < 8 + 2 * np.log2(abs(centre >> unit) + 1):
        return numbers, 0, bucket_of(np.abs(numbers))
    return numbers - centre, centre, bucket


def unit_of(bucket: int) -> int:
    """Centres are multiples of two to this power."""
    return max(0, (bucket - ONE) // 4)


def bucket_of(magnitudes: NDArray[np.generic]) -> int:
    """The bucket of numbers with these magnitudes."""
    return int(np.clip(np.rint(4 * np.log2(magnitudes.mean() + 2.0**-6)) + ONE, 0, LARGEST))


def _scales(magnitudes: NDArray[np.float64]) -> tuple[Integers | None, Integers | None]:
    """Offsets of rows and columns, or None where they cost more than they save."""
    count = magnitudes.shape
    mean = magnitudes.mean() + 0.05
    soft = magnitudes.sum(2) / count[2] + 0.05 * mean
    row, column = np.ones(count[0]), np.ones(count[1])
    for _ in range(3):
        if count[0] > 1:
            row = (soft / column).mean(1) / mean
        if count[1] > 1:
            column = (soft / row[:, None]).mean(0) / mean
    offsets = [np.rint(4 * np.log2(scale)).astype(np.int64) for scale in (row, column)]
    out: list[Integers | None] = []
    for offset, each in zip(offsets, (count[1] * count[2], count[0] * count[2]), strict=True):
        saved = each * _saving(offset / 4.0, mean).sum()
        out.append(offset if len(offset) > 1 and saved > _OFFSET_BITS * len(offset) + 8 else None)
    return out[0], out[1]


def _saving(octaves: NDArray[np.float64], mean: float) -> NDArray[np.float64]:
    """Bits a number saves if its scale is told to be so many octaves from the mean."""
    scale = mean * 2.0**octaves
    entropy = np.log2(1 + scale) + scale * np.log2(1 + 1 / scale)
    saved: NDArray[np.float64] = np.log2(1 + mean) + scale * np.log2(1 + 1 / mean) - entropy
    return saved
