"""torch states on disk: written whole or not at all, read without running code, refused if a byte is wrong.

A file ends with the SHA-256 of what is before it; torch itself does not check its own sums.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import torch

from epigram import atomic
from epigram.errors import FormatError

_SUM_BYTES = 32


def save_state(path: Path, state: dict[str, Any], *, previous: Path | None = None) -> None:
    """Write ``state`` (tensors and plain containers); the file that was there becomes ``previous``.

    Raises:
        StorageError: the disk is full; the previous file is untouched.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.write(hashlib.sha256(buffer.getbuffer()).digest())
    atomic.write_bytes(path, buffer.getbuffer(), previous=previous)


def load_state(path: Path, *, device: torch.device) -> dict[str, Any]:
    """Read what ``save_state`` wrote. No code in the file is run.

    Raises:
        FormatError: the file is damaged or is something else.
        FileNotFoundError: there is no such file.
    """
    data = memoryview(path.read_bytes())
    body, told = data[:-_SUM_BYTES], data[-_SUM_BYTES:]
    if hashlib.sha256(body).digest() != told:
        raise FormatError(f"{path}: damaged, or not a state of ours (its SHA-256 does not fit)")
    try:
        loaded = torch.load(io.BytesIO(body), map_location=device, weights_only=True)
    except (RuntimeError, OSError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        raise FormatError(
            f"{path}: damaged, or not a state of ours ({type(error).__name__})"
        ) from error
    if not isinstance(loaded, dict):
        raise FormatError(f"{path}: got a {type(loaded).__name__}, expected a dictionary")
    return loaded
