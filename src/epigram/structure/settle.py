"""What must hold of the labels once the graph has run on them, whatever the operations were."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from epigram.structure.labels import Cause
from epigram.structure.notes import Use

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor

    from epigram.structure.labels import LabelSpace

_STATISTICS = ("running_mean", "running_var")


def carriers(space: LabelSpace, direct: Mapping[str, Tensor], uses: Sequence[Use]) -> list[Use]:
    """Tensors used by themselves become carriers along the one axis where their units differ.

    Args:
        space: of all labels.
        direct: the tensors that forward uses by itself, with a label for each element.
        uses: of tensors by layers.

    Returns:
        The uses to add: of tensors that no layer uses besides.
    """
    for name, labels in direct.items():
        cause = Cause("forward", name, f"{name} is used directly and by a layer")
        layer_uses = [use for use in uses if use.tensor == name]
        if labels.dim() == 1 and layer_uses:
            space.unite(layer_uses[0].labels, labels, cause)
            continue
        for use in layer_uses:
            space.pin(use.labels, cause)
            space.pin(labels, cause)
    _tie_to_one_axis(space, direct.values())
    found = []
    for name, labels in direct.items():
        axes = space.varying(labels)
        known = any(use.tensor == name for use in uses)
        if known or labels.dim() == 0:
            continue
        axis = axes[0] if axes else max(range(labels.dim()), key=lambda d: labels.shape[d])
        along = labels.movedim(axis, 0).reshape(labels.shape[axis], -1)[:, 0].clone()
        found.append(Use(name, axis, "carries", "forward", along))
    return found


def make_rectangular(space: LabelSpace, tensors: Sequence[Tensor]) -> None:
    """No removal may leave a ragged tensor: units differ along one axis of each activation.

    Units beside what always stays (a layer's output stacked with the input) are pinned by the first round.
    """
    while _tie_to_one_axis(space, tensors):
        pass


def silence(space: LabelSpace, counted: Sequence[Tensor], uses: Iterable[Use]) -> None:
    """What a normalisation counts has to be zero to be gone: in all that produces or shifts it."""
    if not counted:
        return
    classes = np.unique(np.concatenate([space.roots(labels) for labels in counted]))
    for use in uses:
        if use.role == "reads" or use.tensor.rpartition(".")[2] in _STATISTICS:
            continue
        found = np.isin(space.roots(use.labels), classes)
        use.consumed = found if use.consumed is None else use.consumed | found


def _tie_to_one_axis(space: LabelSpace, tensors: Iterable[Tensor]) -> bool:
    """Tie the axes along which units differ, all but one; has that merged any?"""
    changed = False
    cause = Cause("forward", "forward", "removing single units would leave a ragged tensor")
    for labels in tensors:
        axes = space.varying(labels)
        if len(axes) > 1:
            free = max(axes, key=lambda d: (labels.shape[d], d))
            changed |= space.tie(labels, [d for d in axes if d != free], cause)
    return changed
