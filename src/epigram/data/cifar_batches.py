"""The two forms in which CIFAR is published: pickled Python batches, and binary ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from epigram.data.pickled import read_pickled_table
from epigram.errors import DataError

PIXELS = 3 * 32 * 32

Batches: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images ``[examples, 3, 32, 32]`` and labels ``[examples]``."""


def read_pickled(paths: Sequence[Path], *, label: str) -> Batches:
    """The Python batches, read without running them.

    Args:
        paths: the files, in order.
        label: the key of the labels.

    Raises:
        DataError: a file is damaged, asks for code to be run, or holds something else.
    """
    read = [_pickled(path, label) for path in paths]
    images, labels = zip(*read, strict=True)
    return _images(np.concatenate(images)), np.concatenate(labels)


def read_binary(paths: Sequence[Path], *, label_bytes: int) -> Batches:
    """The binary batches: records of the labels and then 3072 pixels.

    Args:
        paths: the files, in order.
        label_bytes: label bytes before each image, of which the last one counts.

    Raises:
        DataError: a file cannot be read, or is not made of whole records.
    """
    records = np.concatenate([_records(path, label_bytes + PIXELS) for path in paths])
    labels = records[:, label_bytes - 1].astype(np.int64)
    return _images(np.ascontiguousarray(records[:, label_bytes:])), labels


def _pickled(path: Path, label: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    table = read_pickled_table(path)
    data, labels = table.get("data"), table.get(label)
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != PIXELS:
        raise DataError(f"{path}: 'data' is not an array of shape (examples, {PIXELS})")
    if not isinstance(labels, list) or not all(
        type(one) is int and 0 <= one < 256 for one in labels
    ):
        raise DataError(f"{path}: {label!r} is not a list of integers from 0 to 255")
    if len(labels) != len(data):
        raise DataError(
            f"{path}: has {len(data)} images and {len(labels)} labels, expected as many of each"
        )
    return data, np.array(labels, np.int64)


def _records(path: Path, size: int) -> NDArray[np.uint8]:
    try:
        raw = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if not len(raw) or len(raw) % size:
        raise DataError(
            f"{path}: has {len(raw)} bytes, expected a multiple of {size}; copy or download it again"
        )
    return raw.reshape(-1, size)


def _images(flat: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return flat.reshape(-1, 3, 32, 32)
