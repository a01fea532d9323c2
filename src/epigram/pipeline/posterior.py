"""q(w) of a run on disk, for those who want uncertainty: ``predict(load_posterior(...), x)``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from epigram import atomic
from epigram.convert import PosteriorSettings, Twin, bayesianize
from epigram.errors import FormatError
from epigram.structure import load_tensors_, state_tensors

POSTERIOR = "posterior.safetensors"
_KEPT = "kept/"


def save_posterior(twin: Twin, path: Path) -> None:
    """Write a twin's parameters and which units are left; no pickle."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in state_tensors(twin).items()}
    for name, mask in twin.kept_masks().items():
        tensors[_KEPT + name] = torch.from_numpy(mask.astype(np.uint8))
    atomic.write_bytes(path, save_safetensors(tensors))


def load_posterior(
    path: str | Path,
    *,
    into: nn.Module,
    example_inputs: Tensor | tuple[Tensor, ...],
    settings: PosteriorSettings | None = None,
) -> Twin:
    """The twin a run kept (``--keep-posterior``), after pruning and before fine-tuning.

    Args:
        path: ``posterior.safetensors`` of a run.
        into: an instance of the original class; it is not changed.
        example_inputs: what it is called with.
        settings: the run's posterior settings (the prior, above all).

    Raises:
        FormatError: the file is damaged, or was made from another network or prior.
    """
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise FormatError(f"{path}: not a posterior: {error}") from error
    twin = bayesianize(into, example_inputs, settings=settings)
    kept = {n.removeprefix(_KEPT): t for n, t in tensors.items() if n.startswith(_KEPT)}
    sizes = {name: len(mask) for name, mask in twin.kept_masks().items()}
    if {name: len(mask) for name, mask in kept.items()} != sizes:
        raise FormatError(
            f"{path}: holds units { ({n: len(m) for n, m in kept.items()}) }, but a "
            f"{type(into).__name__} has {sizes}; pass the class and settings it was made with"
        )
    twin.shrink_({name: mask.numpy().astype(bool) for name, mask in kept.items()}, tried=True)
    try:
        load_tensors_(twin, {n: t for n, t in tensors.items() if not n.startswith(_KEPT)})
    except RuntimeError as error:
        raise FormatError(
            f"{path}: does not fit a twin of {type(into).__name__}: "
            f"{str(error).splitlines()[-1].strip()}"
        ) from error
    return twin.eval()
