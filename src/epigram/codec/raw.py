"""Tensors kept as they are: buffers, and whatever does not tolerate quantisation."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from epigram.codec.adaptive import uniform_bits
from epigram.codec.coder import Coder, Flag
from epigram.errors import ConfigError, FormatError

PLAIN, CONSTANT, SMALL_INTEGERS = 0, 1, 2
_MODES = 3
_MOST_SMALL = 64
_BLOCK = 1 << 16

DTYPES: dict[int, str] = {
    0: "<f4",
    1: "<f8",
    2: "<f2",
    3: "|b1",
    4: "|u1",
    5: "|i1",
    6: "<u2",
    7: "<i2",
    8: "<u4",
    9: "<i4",
    10: "<u8",
    11: "<i8",
    12: "<c8",
    13: "<c16",
}
_CODES = {np.dtype(text): code for code, text in DTYPES.items()}


def dtype_code(dtype: np.dtype[np.generic], name: str) -> int:
    """The number a dtype has in the file.

    Raises:
        ConfigError: the format has no such dtype.
    """
    code = _CODES.get(dtype.newbyteorder("<"))
    if code is None:
        known = ", ".join(str(np.dtype(text)) for text in DTYPES.values())
        raise ConfigError(f"{name}: got a raw tensor of {dtype}, expected one of {known}")
    return code


def code_raw(
    coder: Coder,
    name: str,
    dtype: np.dtype[np.generic],
    values: NDArray[np.generic] | None,
    shape: tuple[int, ...],
) -> NDArray[np.generic]:
    """One raw tensor; ``dtype`` and ``shape`` are known to both sides."""
    count = math.prod(shape)
    if count == 0:
        return np.zeros(shape, dtype)
    flat = None if values is None else np.ascontiguousarray(values, dtype).reshape(count)
    mode = coder.below(_MODES, None if flat is None else _choose(flat))
    if mode == SMALL_INTEGERS:
        return _code_small(coder, name, dtype, flat, count).reshape(shape)
    distinct = 1 if mode == CONSTANT else count
    octets = None if flat is None else flat[:distinct].view(np.uint8)
    read = _code_octets(coder, octets, distinct * dtype.itemsize)
    if dtype.kind == "b" and read.max() > 1:
        raise FormatError(f"{name}: got a boolean of {int(read.max())}, expected 0 or 1")
    out = read.view(dtype)
    return np.full(shape, out.reshape(())) if mode == CONSTANT else out.reshape(shape)


def _code_octets(coder: Coder, octets: NDArray[np.uint8] | None, count: int) -> NDArray[np.uint8]:
    """Bytes, a block at a time: a kernel takes eight times their memory."""
    coder.room_for(8 * count)
    out = np.empty(count, np.uint8)
    for start in range(0, count, _BLOCK):
        end = min(start + _BLOCK, count)
        given = None if octets is None else octets[start:end].astype(np.int64)
        out[start:end] = uniform_bits(coder, 8, given, end - start)
    return out


def _code_small(
    coder: Coder,
    name: str,
    dtype: np.dtype[np.generic],
    flat: NDArray[np.generic] | None,
    count: int,
) -> NDArray[np.generic]:
    if dtype.kind not in "iu" or count > _MOST_SMALL:
        raise FormatError(f"{name}: got small integers for {count} values of {dtype}")
    states = [Flag() for _ in range(32)]
    numbers = [coder.signed(states, None if flat is None else int(flat[i])) for i in range(count)]
    width = 8 * dtype.itemsize
    low, high = (-(1 << width - 1), 1 << width - 1) if dtype.kind == "i" else (0, 1 << width)
    if min(numbers) < low or max(numbers) >= high:
        raise FormatError(f"{name}: got an integer beyond {dtype}")
    return np.array(numbers, dtype=dtype)


def _choose(flat: NDArray[np.generic]) -> int:
    first = flat[:1].tobytes()
    if len(flat) > 1 and flat.tobytes() == first * len(flat):
        return CONSTANT
    if flat.dtype.kind in "iu" and len(flat) <= _MOST_SMALL:
        low, high = int(flat.min()), int(flat.max())
        widest = max(high, -low).bit_length() + 1
        if widest < 31 and 2 * widest <= 8 * flat.dtype.itemsize:
            return SMALL_INTEGERS
    return PLAIN
