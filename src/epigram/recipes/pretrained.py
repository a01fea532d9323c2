"""Weights that others trained, found on disk and told by their contents."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from epigram.data.places import folders
from epigram.errors import DataError

FOLDER = "pretrained"


@dataclass(frozen=True)
class Pretrained:
    """A file of weights that a recipe starts from.

    Attributes:
        file: its name, in ``pretrained/`` of a folder of data sets.
        sha256: of the tensors in it (``tensors_sha256``), whatever the file's own layout.
        source: where to get the weights, and under which licence.
        otherwise: what to do without them.
    """

    file: str
    sha256: str
    source: str
    otherwise: str

    def places(self) -> list[Path]:
        """Where the file is looked for, in order."""
        return [folder / FOLDER / self.file for folder in folders()]

    def load(self) -> dict[str, Tensor]:
        """The tensors.

        Raises:
            DataError: the file is nowhere, is damaged, or holds other weights.
        """
        path = next((place for place in self.places() if place.is_file()), None)
        if path is None:
            raise DataError(
                f"{self.file}: pretrained weights not found; looked for "
                f"{', '.join(map(str, self.places()))}. They are {self.source}; {self.otherwise}"
            )
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise DataError(f"{path}: cannot be read: {error}; copy it again") from error
        found = tensors_sha256(tensors)
        if found != self.sha256:
            raise DataError(
                f"{path}: holds other weights: sha256 of the tensors {found[:16]}..., expected "
                f"{self.sha256[:16]}...; expected {self.source}"
            )
        return tensors


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Over names, types, shapes and values, in the order of the names.

    Counts of batches, which some versions of torch save and others do not, are left out.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        if name.endswith("num_batches_tracked"):
            continue
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
