"""MNIST (Yann LeCun, Corinna Cortes; CC BY-SA 3.0): found on disk, or fetched by torchvision."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import torch

from epigram.data.idx import read_idx
from epigram.data.places import download_folder, folders
from epigram.data.splits import Splits, split_fixed
from epigram.data.tensor_set import TensorSet
from epigram.errors import DataError

MEAN = 0.1307
STD = 0.3081
"""Of the 60 000 training images, in units of 1 = white; the customary figures."""

CONTROL = 5_000
VALIDATION = 5_000
CLASSES = 10

_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_LAYOUTS = ("", "mnist", "MNIST/raw", "raw")  # ours, and torchvision's


def load(root: Path | str | None = None) -> tuple[TensorSet, TensorSet]:
    """Training and test set: uint8 ``[examples, 1, 28, 28]``, labels 0 to 9.

    Looks in ``root`` alone when it is given; otherwise in the folder ``$EPIGRAM_DATA``, then in the
    copy that ships with the repository. In each of them the four files may lie directly, in
    ``mnist/`` or in torchvision's ``MNIST/raw/``, compressed or not. What is found nowhere is
    downloaded by torchvision, if that is installed: into ``root``, else ``$EPIGRAM_DATA``, else
    ``~/.cache/epigram``, where later calls look, too.

    Raises:
        DataError: found nowhere (the message lists where it looked), or damaged.
    """
    return _read(find(root) or _download(download_folder(root), places(root)))


def places(root: Path | str | None = None) -> list[Path]:
    """The folders in which ``load`` looks for the four files, in order."""
    return [folder / layout for folder in folders(root) for layout in _LAYOUTS]


def find(root: Path | str | None = None) -> Path | None:
    """The first of ``places`` that has all four files; None if there is none. Opens no file."""
    return next((place for place in places(root) if _complete(place)), None)


def splits(root: Path | str | None = None) -> Splits:
    """50 000 images to fit, 5 000 each for control and validation, and the 10 000 test images.

    Raises:
        DataError: as in ``load``.
    """
    train, test = load(root)
    fit, control, validation = split_fixed(train, control=CONTROL, validation=VALIDATION)
    return Splits(fit, control, validation, test)


def _find(folder: Path, stem: str) -> Path | None:
    for name in (f"{stem}.gz", stem, f"{stem.replace('-idx', '.idx')}"):
        if (folder / name).is_file():
            return folder / name
    return None


def _complete(folder: Path) -> bool:
    return all(_find(folder, stem) for pair in _FILES.values() for stem in pair)


def _read(folder: Path) -> tuple[TensorSet, TensorSet]:
    return _read_part(folder, "train"), _read_part(folder, "test")


def _read_part(folder: Path, part: str) -> TensorSet:
    stem_images, stem_labels = _FILES[part]
    path_images, path_labels = _find(folder, stem_images), _find(folder, stem_labels)
    assert path_images is not None, "complete folders only"
    assert path_labels is not None, "complete folders only"
    images, labels = read_idx(path_images), read_idx(path_labels)
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (28, 28):
        raise DataError(
            f"{path_images}: got {images.dtype} of shape {images.shape}, "
            "expected uint8 of shape (examples, 28, 28)"
        )
    if labels.dtype != np.uint8 or labels.ndim != 1:
        raise DataError(
            f"{path_labels}: got {labels.dtype} of shape {labels.shape}, "
            "expected uint8 of shape (examples,)"
        )
    inputs = torch.from_numpy(images).unsqueeze(1)
    return TensorSet(inputs, torch.from_numpy(labels), f"mnist/{part}", CLASSES)


def _download(folder: Path, looked: list[Path]) -> Path:
    try:
        datasets = importlib.import_module("torchvision.datasets")
        for train in (True, False):
            datasets.MNIST(str(folder), train=train, download=True)
        return folder / "MNIST" / "raw"
    except ImportError:
        reason = "torchvision, which could download it, is not installed"
    except (OSError, RuntimeError, ValueError) as error:
        reason = f"the download failed: {error}"
    raise DataError(
        f"MNIST: not found, and {reason}. Looked in {', '.join(map(str, looked))}. Put the four "
        "IDX files into one of these, or set EPIGRAM_DATA to the folder that holds mnist/"
    )
