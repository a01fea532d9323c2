"""Torch-Pruning's side of a comparison at equal MACs: cut a per cent of the channels at a time."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from itertools import cycle

import torch.nn.functional as F
from torch import Tensor, nn

from epigram.evaluate import macs

IMPORTANCES = ("magnitude", "taylor", "bn-scale")
STEPS = 100
"""In how many steps Torch-Pruning would take all channels away."""


def pruned(
    model: nn.Module, importance: str, target: float, batches: Sequence[tuple[Tensor, Tensor]]
) -> nn.Module:
    """A copy of the model, its least important channels gone until ``target`` MACs are reached.

    Args:
        model: has a head called ``linear``, which is left alone.
        importance: one of ``IMPORTANCES``, over groups, ranked globally.
        target: MACs.
        batches: of preprocessed inputs and targets, for gradients; the first input is traced with.

    Raises:
        RuntimeError: its last step does not reach them.
    """
    import torch_pruning  # type: ignore[import-untyped]

    importances = {
        "magnitude": lambda: torch_pruning.importance.GroupMagnitudeImportance(p=2),
        "taylor": torch_pruning.importance.GroupTaylorImportance,
        "bn-scale": torch_pruning.importance.BNScaleImportance,
    }
    model, example = copy.deepcopy(model), batches[0][0][:1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruner = torch_pruning.pruner.BasePruner(
            model.eval(),
            example,
            importance=importances[importance](),
            global_pruning=True,
            iterative_steps=STEPS,
            pruning_ratio=1.0,
            max_pruning_ratio=0.95,
            ignored_layers=[model.linear],
        )
        feed = cycle(batches)
        for _ in range(STEPS):
            if macs(model, example) <= target:
                return model
            if importance == "taylor":
                model.zero_grad()
                for x, y in (next(feed), next(feed)):
                    F.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
            pruner.step()
    raise RuntimeError(f"Torch-Pruning, {importance}: {macs(model, example)} MACs, wanted {target}")
