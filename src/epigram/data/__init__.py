"""Data sets in memory, fixed splits, and batches that are a pure function of (seed, epoch)."""

from __future__ import annotations

from epigram.data import cifar, image_folder, mnist, parquet
from epigram.data.augment import Augment, Augmentation
from epigram.data.fits import check_fits
from epigram.data.idx import read_idx
from epigram.data.pictures import Decoding
from epigram.data.preprocess import Preprocess
from epigram.data.splits import Splits, split_fixed
from epigram.data.stream import batches, batches_per_epoch, epoch_order
from epigram.data.tensor_set import TensorSet
from epigram.data.warp import Warp

__all__ = [
    "Augment",
    "Augmentation",
    "Decoding",
    "Preprocess",
    "Splits",
    "TensorSet",
    "Warp",
    "batches",
    "batches_per_epoch",
    "check_fits",
    "cifar",
    "epoch_order",
    "image_folder",
    "mnist",
    "parquet",
    "read_idx",
    "split_fixed",
]
