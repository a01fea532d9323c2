"""Folders of pictures, one sub-folder per class, as torchvision's ``ImageFolder`` has them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from epigram.data.decoded import Decoded, remembered
from epigram.data.pictures import Decoding, decode
from epigram.data.tensor_set import TensorSet
from epigram.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp", ".gif")


def classes(folder: Path | str) -> list[str]:
    """The sub-folders, sorted: label 0 is the first."""
    folder = Path(folder)
    return sorted(entry.name for entry in folder.iterdir() if _visible(entry) and entry.is_dir())


def load(
    folder: Path | str, *, name: str | None = None, decoding: Decoding | None = None
) -> TensorSet:
    """All pictures below ``folder/<class>/``: uint8 ``[examples, channels, height, width]``.

    Ordered by class and path; files with another suffix are passed over. Decoded once; the pixels are
    kept in the cache folder.

    Args:
        folder: holds one sub-folder per class, and nothing else that counts.
        name: what messages call the set; None = the folder's name.
        decoding: how pictures become pixels; None = RGB, all of one size.

    Raises:
        DataError: no such folder, no classes, a class without pictures, a picture that cannot be
            decoded or differs in size.

    Example:
        >>> load("no/such/folder")
        Traceback (most recent call last):
        epigram.errors.DataError: no/such/folder: no such folder; expected one with a sub-folder ...
    """
    folder, decoding = Path(folder), decoding or Decoding()
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one with a sub-folder for each class")
    found = classes(folder)
    if not found:
        raise DataError(f"{folder}: has no sub-folders, expected one for each class")
    files = [(file, label) for label, one in enumerate(found) for file in _pictures(folder / one)]
    key = f"folder {_digest(folder, found, files)} {decoding.describe()}"
    images, labels = remembered(key, lambda: _decoded(files, decoding))
    where = name or folder.name
    return TensorSet(torch.from_numpy(images), torch.from_numpy(labels), where, len(found))


def _pictures(folder: Path) -> list[Path]:
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and _visible(path) and path.is_file()
    )
    if not found:
        raise DataError(
            f"{folder}: has no pictures, expected files ending in {', '.join(SUFFIXES)}"
        )
    return found


def _visible(path: Path) -> bool:
    return not path.name.startswith(".")


def _digest(folder: Path, found: list[str], files: list[tuple[Path, int]]) -> str:
    digest = hashlib.sha256(repr(found).encode())
    for path, encoded in _contents([file for file, _ in files]):
        relative = Path(path).relative_to(folder).as_posix()
        digest.update(f"{relative!r} {len(encoded)}\n".encode())
        digest.update(encoded)
    return digest.hexdigest()


def _contents(files: list[Path]) -> Iterator[tuple[str, bytes]]:
    for path in files:
        try:
            yield str(path), path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error}") from error


def _decoded(files: list[tuple[Path, int]], decoding: Decoding) -> Decoded:
    images = decode(_contents([file for file, _ in files]), len(files), decoding)
    return images, np.array([label for _, label in files], np.int64)
