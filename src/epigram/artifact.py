"""The torch side of a file: write one, and turn one into a plain smaller module.

save(contents, "small.epg")
small = load("small.epg", into=Net())        # the user's own class, smaller
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from epigram import atomic, codec
from epigram.codec import Limits, Profile
from epigram.errors import ConfigError, FormatError, StorageError
from epigram.records import FileContents, RawTensor
from epigram.structure import check_numbers, followed_numbers, resize_to_shapes_
from epigram.structure.copying import copied

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

    Tensors of ``into`` that the file does not hold (a batch normalisation's ``num_batches_tracked``,
    say) keep ``into``'s value. Where the module around one has become smaller, that is only possible if
    all its entries are equal, as in a fresh module: which of them are left, the file does not say.

    Args:
        path: the file.
        into: an instance of the original class, dense; it is copied, not changed.
        limits: caps on what the file may ask for.

    Raises:
        FormatError: the file is damaged, or was made from another class; the message names the
            tensor and the shapes.
        StorageError: the file cannot be read.
    """
    return restored(_decode(_read(path), dense_shapes(into), into, limits), into, where=str(path))


def restored(contents: FileContents, into: nn.Module, *, where: str = "contents") -> nn.Module:
    """The network that a reader of these contents gets; see ``load``.

    Coding loses nothing, so this is what ``load`` returns after ``save``, without the time that both take.

    Args:
        contents: what a file says.
        into: an instance of the original class, dense; it is copied, not changed.
        where: what errors call the contents.

    Raises:
        FormatError: the contents were made from another class.
    """
    model = copied(into)
    state = model.state_dict()
    for tensor in contents.tensors:
        if tensor.name not in state:
            raise FormatError(
                f"{where}: {tensor.name} is in the file, but not in {type(into).__name__}; pass the "
                "class the file was made from"
            )
    absent = _absent(contents, state)
    shapes = {tensor.name: tensor.shape for tensor in contents.tensors}
    shapes |= {name: tuple(value.shape) for name, value in absent.items()}
    try:
        check_numbers(into, contents.numbers)
        resize_to_shapes_(model, shapes, contents.numbers)
    except ConfigError as error:
        raise FormatError(
            f"{where}: the file does not fit {type(into).__name__}: {error}"
        ) from error
    _fill_(
        model, {t.name: torch.from_numpy(np.array(t.values())) for t in contents.tensors} | absent
    )
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
    state = into.state_dict()
    floating = {name: shape for name, shape in dense.items() if state[name].is_floating_point()}
    held = len(codec.inspect(data, limits=limits)["tensors"])
    first, second = (floating, dense) if held == len(floating) else (dense, floating)
    try:
        return codec.decode(data, dense_shapes=first, limits=limits)
    except FormatError as error:
        try:
            return codec.decode(data, dense_shapes=second, limits=limits)
        except FormatError:
            raise error from None


def _absent(contents: FileContents, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors the file does not hold whose module becomes smaller, cut to their neighbours' size."""
    held = {tensor.name: tensor for tensor in contents.tensors}
    sizes: dict[tuple[str, int], int] = {}
    for tensor in contents.tensors:
        if len(tensor.shape) == 1:
            sizes[tensor.name.rpartition(".")[0], tensor.dense_shape[0]] = tensor.shape[0]
    out = {}
    for name, value in state.items():
        if name in held or value.ndim != 1:
            continue
        size = sizes.get((name.rpartition(".")[0], len(value)), len(value))
        if size == len(value):
            continue
        if not bool((value == value[0]).all()):
            raise FormatError(
                f"{name}: not in the file, and got {len(value)} different values for {size} places; "
                "expected equal ones, as in a fresh module, or a file that holds the tensor"
            )
        out[name] = value[:size].clone()
    return out


def _fill_(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    state = model.state_dict()
    for name, value in values.items():
        target = state[name]
        if target.shape != value.shape:
            raise FormatError(
                f"{name}: got shape {tuple(value.shape)} in the file, but {tuple(target.shape)} in "
                f"{type(model).__name__} after resizing; pass the class the file was made from"
            )
        with torch.no_grad():
            target.copy_(value)


def _as_they_are(model: nn.Module) -> FileContents:
    tensors = []
    for name, tensor in model.state_dict().items():
        if tensor.dtype == torch.bfloat16:
            raise ConfigError(
                f"{name}: got bfloat16, which numpy has no word for; convert the module to "
                "float32 or float16 first"
            )
        tensors.append(RawTensor(name, tuple(tensor.shape), tensor.detach().cpu().numpy()))
    return FileContents(tuple(tensors), numbers=followed_numbers(model))
