"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), and CIFAR-10 as JPEG: found on disk, or downloaded.

``cifar10`` and ``cifar100`` are the original pixels. ``cifar10-jpeg`` is a data set of its own: the same
pictures after a lossy encoding, which are harder. The one is never read where the other is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import torch

from epigram.data import image_folder, parquet
from epigram.data.cifar_batches import Batches, read_binary, read_pickled
from epigram.data.pictures import FORMATS, LOSSLESS, Decoding
from epigram.data.places import download_folder, folders
from epigram.data.splits import Splits, split_fixed
from epigram.data.tensor_set import TensorSet
from epigram.errors import DataError

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
"""Of CIFAR-10's 50 000 training images per channel, in units of 1 = white; the customary figures."""

CONTROL = 5_000
VALIDATION = 5_000

Split: TypeAlias = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")

_SHAPE = (3, 32, 32)


@dataclass(frozen=True, kw_only=True)
class Cifar:
    """One of the data sets.

    Attributes:
        name: of the set, and of the folder it lies in.
        classes: how many there are.
        bases: the folders of the published archives, the pickled and the binary one.
        train: the names of the training batches.
        test: the name of the test batch.
        label: the key of the labels in the pickled batches.
        label_bytes: label bytes before each image of the binary batches.
        formats: picture formats accepted in tables and folders.
        remote: torchvision's class, whose archive is downloaded; "" = it cannot be.
    """

    name: str
    classes: int
    bases: tuple[str, ...] = ()
    train: tuple[str, ...] = ()
    test: str = ""
    label: str = ""
    label_bytes: int = 1
    formats: tuple[str, ...] = LOSSLESS
    remote: str = ""

    def load(self, root: Path | str | None = None) -> tuple[TensorSet, TensorSet]:
        """Training and test set: uint8 ``[examples, 3, 32, 32]``, labels from 0.

        Looks in ``root`` alone when it is given; otherwise in ``$EPIGRAM_DATA``, then in the copy of the
        repository, then in ``~/.cache/epigram``. ``places`` says where in each of them. What is found
        nowhere is downloaded where torchvision is installed and the set can be had.

        Raises:
            DataError: found nowhere (the message lists where it looked), or damaged.
        """
        place = self.find(root) or self._download(root)
        read = self._layout(place)
        assert read is not None, "complete folders only"
        return self._checked(read, place, "train"), self._checked(read, place, "test")

    def splits(self, root: Path | str | None = None) -> Splits:
        """5 000 training images each for control and validation, the others (40 000) to fit.

        Raises:
            DataError: as in ``load``.
        """
        train, test = self.load(root)
        fit, control, validation = split_fixed(train, control=CONTROL, validation=VALIDATION)
        return Splits(fit, control, validation, test)

    def places(self, root: Path | str | None = None) -> list[Path]:
        """The folders in which ``load`` looks, in order."""
        layouts = [self.name, *(f"{self.name}/{base}" for base in self.bases), *self.bases]
        return [folder / layout for folder in folders(root) for layout in layouts]

    def find(self, root: Path | str | None = None) -> Path | None:
        """The first of ``places`` that holds a training and a test set; opens no file."""
        return next((place for place in self.places(root) if self._layout(place)), None)

    def _layout(self, place: Path) -> Callable[[Path, Split], TensorSet] | None:
        """How to read what lies there; None if nothing whole does."""
        if self.bases and all(path.is_file() for path in self._batches(place)):
            return self._read_pickled
        if self.bases and all(path.is_file() for path in self._batches(place, ".bin")):
            return self._read_binary
        if all(parquet.parts(place, split) for split in SPLITS):
            return self._read_tables
        if all((place / split).is_dir() for split in SPLITS):
            return self._read_folders
        return None

    def _batches(self, place: Path, suffix: str = "", split: Split | None = None) -> list[Path]:
        names = {"train": self.train, "test": (self.test,), None: (*self.train, self.test)}
        return [place / f"{name}{suffix}" for name in names[split]]

    def _checked(
        self, read: Callable[[Path, Split], TensorSet], place: Path, split: Split
    ) -> TensorSet:
        found = read(place, split)
        if tuple(found.inputs.shape[1:]) != _SHAPE:
            raise DataError(
                f"{place}: {split} images have shape {tuple(found.inputs.shape[1:])}, "
                f"expected {_SHAPE}"
            )
        return found

    def _read_pickled(self, place: Path, split: Split) -> TensorSet:
        return self._set(read_pickled(self._batches(place, "", split), label=self.label), split)

    def _read_binary(self, place: Path, split: Split) -> TensorSet:
        files = self._batches(place, ".bin", split)
        return self._set(read_binary(files, label_bytes=self.label_bytes), split)

    def _set(self, read: Batches, split: Split) -> TensorSet:
        images, labels = map(torch.from_numpy, read)
        return TensorSet(images, labels, f"{self.name}/{split}", self.classes)

    def _read_tables(self, place: Path, split: Split) -> TensorSet:
        files = parquet.parts(place, split)
        name, decoding = f"{self.name}/{split}", Decoding(formats=self.formats)
        return parquet.load(files, name=name, num_classes=self.classes, decoding=decoding)

    def _read_folders(self, place: Path, split: Split) -> TensorSet:
        decoding = Decoding(formats=self.formats)
        found = image_folder.load(place / split, name=f"{self.name}/{split}", decoding=decoding)
        if found.num_classes != self.classes:
            raise DataError(
                f"{place / split}: has {found.num_classes} sub-folders, expected {self.classes}"
            )
        return found

    def _download(self, root: Path | str | None) -> Path:
        folder = download_folder(root)
        reason = "it cannot be downloaded"
        if self.remote:
            try:
                remote = getattr(importlib.import_module("torchvision.datasets"), self.remote)
                fetch = importlib.import_module("torchvision.datasets.utils")
                fetch.download_and_extract_archive(
                    remote.url, str(folder), filename=remote.filename, md5=remote.tgz_md5
                )
                return folder / self.bases[0]
            except ImportError:
                reason = "torchvision, which could download it, is not installed"
            except (OSError, RuntimeError, ValueError) as error:
                reason = f"the download failed: {error}"
        looked = ", ".join(map(str, self.places(root)))
        raise DataError(
            f"{self.name}: not found, and {reason}. Looked in {looked}. Put its batches, parquet "
            f"tables or folders of pictures into one of these, or set EPIGRAM_DATA to the folder that "
            f"holds {self.name}/"
        )


CIFAR10 = Cifar(
    name="cifar10",
    classes=10,
    bases=("cifar-10-batches-py", "cifar-10-batches-bin"),
    train=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test="test_batch",
    label="labels",
    remote="CIFAR10",
)
CIFAR100 = Cifar(
    name="cifar100",
    classes=100,
    bases=("cifar-100-python", "cifar-100-binary"),
    train=("train",),
    test="test",
    label="fine_labels",
    label_bytes=2,
    remote="CIFAR100",
)
CIFAR10_JPEG = Cifar(name="cifar10-jpeg", classes=10, formats=FORMATS)
