"""The IDX format of MNIST: a magic number, big-endian sizes, then the numbers.

Byte 0 and 1 are zero, byte 2 is the type, byte 3 the number of axes; one 32-bit size per axis
follows. See https://yann.lecun.com/exdb/mnist/ (section "File formats").
"""

from __future__ import annotations

import gzip
import math
import zlib
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epigram.errors import DataError

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"
_MAX_AXES = 8
DEFAULT_MAX_BYTES = 1 << 30


def read_idx(path: Path | str, *, max_bytes: int = DEFAULT_MAX_BYTES) -> NDArray[Any]:
    """The array in an IDX file, gzip-compressed or plain (told by its first bytes).

    Args:
        path: The file.
        max_bytes: Refuse arrays larger than this, before any memory is taken for them.

    Returns:
        A writable array in native byte order.

    Raises:
        DataError: the file cannot be read, is damaged or truncated, is not IDX, has bytes left
            over, or is larger than ``max_bytes``.
    """
    path = Path(path)
    try:
        with path.open("rb") as raw:
            compressed = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            if not compressed:
                return _parse(raw, path, max_bytes)
            with gzip.GzipFile(fileobj=raw) as plain:
                return _parse(plain, path, max_bytes)
    except EOFError:
        raise DataError(f"{path}: the gzip stream ends early; copy or download it again") from None
    except (OSError, zlib.error) as error:  # gzip.BadGzipFile is an OSError
        raise DataError(f"{path}: cannot be read: {error}") from error


def _parse(stream: BufferedIOBase, path: Path, max_bytes: int) -> NDArray[Any]:
    dtype, axes = _magic(_exactly(stream, 4, path, "magic number"), path)
    sizes = np.frombuffer(_exactly(stream, 4 * axes, path, "sizes"), dtype=">u4")
    shape = tuple(int(size) for size in sizes)
    length = math.prod(shape) * dtype.itemsize
    if length > max_bytes:
        raise DataError(f"{path}: shape {shape} takes {length} bytes, expected at most {max_bytes}")
    values = np.frombuffer(_exactly(stream, length, path, "values"), dtype=dtype).reshape(shape)
    if stream.read(1):
        raise DataError(f"{path}: bytes are left over after the values of shape {shape}")
    return values.astype(dtype.newbyteorder("="))


def _magic(magic: bytes, path: Path) -> tuple[np.dtype[Any], int]:
    zeros, kind, axes = magic[:2], magic[2], magic[3]
    if zeros != b"\0\0" or kind not in _TYPES or not 1 <= axes <= _MAX_AXES:
        raise DataError(
            f"{path}: not an IDX file: magic number 0x{magic.hex()}, expected 0x0000, a type "
            f"0x08 to 0x0e and 1 to {_MAX_AXES} axes (0x00000803 for MNIST images)"
        )
    return np.dtype(_TYPES[kind]), axes


def _exactly(stream: BufferedIOBase, length: int, path: Path, what: str) -> bytes:
    data = stream.read(length)
    if len(data) != length:
        raise DataError(
            f"{path}: truncated: {len(data)} bytes of {what}, expected {length}; "
            "copy or download it again"
        )
    return data
