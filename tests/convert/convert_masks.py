"""Random masks for a twin, and the twin that masks instead of shrinking."""

from __future__ import annotations

import copy

import numpy as np
import torch

from epigram.convert import Twin


def keep_some(twin: Twin, rng: np.random.Generator, share: float) -> dict[str, np.ndarray]:
    """A random mask per scale in which every unit that stays keeps a position, and vice versa."""
    masks = {}
    for name, (units, _) in twin.units_kept().items():
        mask = rng.random(units) < share
        mask[rng.integers(units)] = True
        masks[name] = mask
    for name, mask in masks.items():
        try:
            owners = twin.position_owners(name)
        except KeyError:
            continue
        group = name.removesuffix(".positions")
        group = next(a.group for a in twin.structure.positions if a.name == group)
        if not (mask & masks[group][owners]).any():
            masks[group][owners[np.flatnonzero(mask)[0]]] = True
    return masks


def masked(twin: Twin, keep: dict[str, np.ndarray]) -> Twin:
    reference = copy.deepcopy(twin)
    for name, mask in keep.items():
        reference.scale(name).z_mean.data[~torch.from_numpy(mask)] = 0.0
    return reference


def random_scales_(twin: Twin) -> None:
    for name in twin.names:
        twin.scale(name).z_mean.data.uniform_(0.5, 1.5)
