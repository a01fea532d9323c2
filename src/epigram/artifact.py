"""The torch side of a file: write one, and turn one into a plain smaller module.

save(contents, "small.epg")
small = load("small.epg", into=Net())        # the user's own class, smaller
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from epigram import atomic, codec
from epigram.codec import Limits, Profile
from epigram.errors import ConfigError, FormatError, StorageError
from epigram.records import FileContents, RawTensor
from epigram.structure import resize_to_shapes_

PathLike: TypeAlias = str | os.PathLike[str]
Shape: TypeAlias = tuple[int, ...]


def save(
    contents: FileContents | nn.Module,
    path: PathLike,
    *,
    profile: Profile = "bare",
    state_names: Sequence[str] | None = None,
) -> int:
    """Write a file, whole or not at all.

    Args:
        contents: what to write; or a plain module, whose tensors are then kept as they are.
        path: where; the folder is made if need be.
        profile: *bare* (needs the original class to be read) or *named*.
        state_names: see ``codec.encode``; taken from a module by itself.

    Returns:
        The size of the file in bytes.

    Raises:
        ConfigError: the contents cannot be written; the message names the tensor.
        StorageError: the disk refuses; what was there before is untouched.
    """
    if isinstance(contents, nn.Module):
        contents = _as_they_are(contents)
    data = codec.encode(contents, profile=profile, state_names=state_names)
    atomic.write_bytes(path, data)
    return len(data)


def load(path: PathLike, *, into: nn.Module, limits: Limits = Limits()) -> nn.Module:  # noqa: B008
    """The network in a file: a plain module of ``into``'s class, resized and filled.

    Tensors of ``into`` that the file does not hold (a batch normalisation's ``num_batches_tracked``, say)
    keep ``into``'s value, cut to the leading entries where the module has become smaller.

    Args:
        path: the file.
        into: an instance of the original class, dense; it is copied, not changed.
        limits: caps on what the file may ask for.

    Raises:
        FormatError: the file is damaged, or was made from another class; the message names the
            tensor and the shapes.
        StorageError: the file cannot be read.
    """
    contents = _decode(_read(path), dense_shapes(into), into, limits)
    model = copy.deepcopy(into)
    state = model.state_dict()
    for tensor in contents.tensors:
        if tensor.name not in state:
            raise FormatError(
                f"{path}: {tensor.name} is in the file, but not in {type(into).__name__}; pass the "
                "class the file was made from"
            )
    resize_to_shapes_(model, {tensor.name: tensor.shape for tensor in contents.tensors})
    _fill_(model, contents)
    return model


def state_dict(
    path: PathLike,
    dense_shapes: Mapping[str, Shape] | None = None,
    *,
    limits: Limits = Limits(),  # noqa: B008
) -> dict[str, NDArray[np.generic]]:
    """The small network's tensors by name; a bare file needs the original's shapes, in order.

    Raises:
        FormatError: the file is damaged, or does not fit the shapes.
        StorageError: the file cannot be read.
    """
    contents = codec.decode(_read(path), dense_shapes=dense_shapes, limits=limits)
    return {tensor.name: tensor.values() for tensor in contents.tensors}


def dense_shapes(model: nn.Module) -> dict[str, Shape]:
    """Names and shapes of a module's tensors, in the order a bare file counts on."""
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _read(path: PathLike) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise StorageError(
            error.errno, f"could not read {Path(path)}: {error.strerror or error}"
        ) from error


def _decode(
    data: bytes, dense: Mapping[str, Shape], into: nn.Module, limits: Limits
) -> FileContents:
    """Decode for ``into``; a file without integer buffers is met by leaving them out."""
    if codec.profile_of(data, limits=limits) == "named":
        return codec.decode(data, dense_shapes=dense, limits=limits)
    try:
        return codec.decode(data, dense_shapes=dense, limits=limits)
    except FormatError as error:
        floating = {
            n: tuple(t.shape) for n, t in into.state_dict().items() if t.is_floating_point()
        }
        if len(floating) == len(dense):
            raise
        try:
            return codec.decode(data, dense_shapes=floating, limits=limits)
        except FormatError:
            raise error from None


def _fill_(model: nn.Module, contents: FileContents) -> None:
    state = model.state_dict()
    for tensor in contents.tensors:
        target = state[tensor.name]
        if tuple(target.shape) != tensor.shape:
            raise FormatError(
                f"{tensor.name}: got shape {tensor.shape} in the file, but {tuple(target.shape)} in "
                f"{type(model).__name__} after resizing; pass the class the file was made from"
            )
        values = torch.from_numpy(np.array(tensor.values()))
        with torch.no_grad():
            target.copy_(values)


def _as_they_are(model: nn.Module) -> FileContents:
    tensors = []
    for name, tensor in model.state_dict().items():
        if tensor.dtype == torch.bfloat16:
            raise ConfigError(
                f"{name}: got bfloat16, which numpy has no word for; convert the module to "
                "float32 or float16 first"
            )
        tensors.append(RawTensor(name, tuple(tensor.shape), tensor.detach().cpu().numpy()))
    return FileContents(tuple(tensors))
