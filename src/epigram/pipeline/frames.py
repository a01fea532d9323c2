"""Pictures of the weights as they change: one small file per epoch."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from epigram import atomic
from epigram.convert import Twin, dense_weights
from epigram.layers import TWINS

_NAMES = ("first", "second")


def pictured(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """The first two weight tensors of a network and their shapes: what the movies show."""
    found = [
        (f"{name}.weight" if name else "weight", tuple(module.weight.shape))
        for name, module in model.named_modules()
        if type(module) in TWINS and isinstance(module._parameters.get("weight"), nn.Parameter)  # noqa: SLF001
    ]
    return dict(found[: len(_NAMES)])


def write_frame(
    folder: Path,
    stage: str,
    epoch: int,
    model: nn.Module,
    shapes: dict[str, tuple[int, ...]],
    *,
    values: nn.Module | None = None,
) -> None:
    """Write ``frames/<stage>-<epoch>.npz``: weights in the original's coordinates.

    Args:
        folder: the run's.
        stage: names the file.
        epoch: numbers it.
        model: a plain network of the original's shape, or a twin (its posterior means are shown).
        shapes: which tensors, with their shapes in the original.
        values: the small network that came of the twin, if its weights are to be shown instead.
    """
    shown = model if values is None else values
    weights = {n: t.detach().cpu().numpy() for n, t in shown.named_parameters() if n in shapes}
    if isinstance(model, Twin):
        weights = dense_weights(model, shapes, values=weights if values is not None else None)
    arrays = {
        label: weights[name].astype(np.float16) for label, name in zip(_NAMES, shapes, strict=False)
    }
    write_npz(folder / "frames" / f"{stage}-{epoch:04d}.npz", arrays)


def write_npz(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Arrays to one compressed file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    atomic.write_bytes(path, buffer.getvalue())
