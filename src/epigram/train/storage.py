"""torch states on disk: written whole or not at all, read without running code."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch

from epigram import atomic
from epigram.errors import FormatError


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` (tensors and plain containers).

    Raises:
        StorageError: the disk is full; the previous file is untouched.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    atomic.write_bytes(path, buffer.getbuffer())


def load_state(path: Path, *, device: torch.device) -> dict[str, Any]:
    """Read what ``save_state`` wrote. No code in the file is run.

    Raises:
        FormatError: the file is damaged or is something else.
        FileNotFoundError: there is no such file.
    """
    data = path.read_bytes()
    try:
        loaded = torch.load(io.BytesIO(data), map_location=device, weights_only=True)
    except (RuntimeError, OSError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        raise FormatError(
            f"{path}: damaged, or not a state of ours ({type(error).__name__}); delete it to start "
            "this stage anew"
        ) from error
    if not isinstance(loaded, dict):
        raise FormatError(f"{path}: got a {type(loaded).__name__}, expected a dictionary")
    return loaded
