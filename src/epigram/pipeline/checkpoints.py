"""A checkpoint's tensors as numpy arrays, whatever kind of tensor torch has written."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_safetensors
from torch import Tensor

from epigram.errors import ConfigError, StorageError

_OF_NUMPY = (torch.float16, torch.float32, torch.float64)


def read_checkpoint(path: str | Path) -> dict[str, NDArray[np.generic]]:
    """The tensors of a ``.safetensors`` file, or of a ``.pt`` state dict; pickled code is never run.

    A state dict keeps its order. A ``.safetensors`` file has none and its reader gives a chance one, so its
    tensors come by name: the same checkpoint is the same file each time. Sparse and quantised tensors come
    dense, floating-point types that numpy has no word for (bfloat16, float8) as float32.

    Raises:
        ConfigError: the file is neither, holds something else than tensors, or a tensor without values that
            numpy could hold (on the meta device, nested, of packed bits); the message names it.
        StorageError: it cannot be read.
    """
    path = Path(path)
    found: Any
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of kinds of tensors it has in beta
            found = _loaded(path)
    except OSError as error:
        raise StorageError(error.errno, f"could not read {path}: {error}") from error
    except Exception as error:
        first = str(error).partition("\n")[0]
        raise ConfigError(
            f"{path}: expected safetensors, or a state dict saved by torch.save that loads with "
            f"weights_only=True; got {type(error).__name__}: {first}"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not all(torch.is_tensor(v) for v in found.values()):
        raise ConfigError(f"{path}: expected a mapping of names to tensors")
    return {str(name): _array(tensor, f"{path}: {name}") for name, tensor in found.items()}


def _loaded(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return dict(sorted(load_safetensors(path.read_bytes()).items()))
    return torch.load(path, map_location="cpu", weights_only=True)


def _array(tensor: Tensor, where: str) -> NDArray[np.generic]:
    kind = f"{tensor.dtype} ({tensor.layout}, on {tensor.device})"
    try:
        tensor = tensor.detach()
        if tensor.layout != torch.strided:
            tensor = tensor.to_dense()
        if tensor.is_quantized:
            tensor = tensor.dequantize()
        if tensor.is_floating_point() and tensor.dtype not in _OF_NUMPY:
            tensor = tensor.float()
        values: NDArray[np.generic] = tensor.resolve_conj().resolve_neg().contiguous().numpy()
    except (RuntimeError, TypeError) as error:  # NotImplementedError is one of the former
        first = str(error).partition("\n")[0]
        raise ConfigError(
            f"{where}: got a tensor of {kind}, which has no dense numpy form ({first}); expected "
            "numbers in memory: convert it, or leave it out of the checkpoint"
        ) from error
    return values
