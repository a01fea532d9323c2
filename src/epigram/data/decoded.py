"""Decoded pictures kept in the cache folder, so that the next start need not decode them.

Two ``.npy`` files and a small one with their sha256, which is written last: an entry is whole or not
there. The key is a hash of everything the pixels depend on, so an entry is never out of date.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from epigram import atomic
from epigram.data.places import cache_folder
from epigram.errors import StorageError

Decoded: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images ``[examples, channels, height, width]`` and labels ``[examples]``."""

_VERSION = "1"


def remembered(key: str, make: Callable[[], Decoded]) -> Decoded:
    """What ``make`` returns: from the cache folder if it is there and whole, otherwise made and kept.

    Where the cache folder cannot be written, nothing is kept.
    """
    folder = cache_folder() / "decoded"
    stem = hashlib.sha256(f"{_VERSION} {key}".encode()).hexdigest()[:32]
    found = _read(folder, stem)
    if found is not None:
        return found
    made = make()
    with contextlib.suppress(StorageError):
        _write(folder, stem, made)
    return made


def _paths(folder: Path, stem: str) -> tuple[Path, Path, Path]:
    return folder / f"{stem}.npy", folder / f"{stem}-labels.npy", folder / f"{stem}.json"


def _read(folder: Path, stem: str) -> Decoded | None:
    *arrays, about = _paths(folder, stem)
    try:
        expected = json.loads(about.read_text("utf-8"))["sha256"]
        images, labels = (np.load(path, allow_pickle=False) for path in arrays)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (images, labels) if [_digest(images), _digest(labels)] == expected else None


def _write(folder: Path, stem: str, made: Decoded) -> None:
    *arrays, about = _paths(folder, stem)
    pairs: zip[tuple[Path, NDArray[Any]]] = zip(arrays, made, strict=True)
    for path, array in pairs:
        with atomic.replacing(path) as file:
            np.save(file, array, allow_pickle=False)
    atomic.write_json(about, {"sha256": [_digest(array) for array in made]})


def _digest(array: NDArray[Any]) -> str:
    digest = hashlib.sha256(f"{array.dtype} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
