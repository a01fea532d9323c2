"""Where the layers of a network have the examples: the axis that grows when one more is given.

                x [N, ...]                        x [N + 1, ...]
    reads  [length, N, width]     against     [length, N + 1, width]     ->  axis 1

Sizes alone can deceive: where ``forward`` says ``view(4, -1, width)`` of 4 examples, a fifth makes more places.
So what the first N examples had there must be there still, place by place. And the first input may be no batch
(an adjacency matrix): the output has to have one more, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

_NOWHERE, _UNSURE = -1, -2
_CLOSE = 0.01
"""Of the spread between examples: how far rounding may take one of them, at most."""


@dataclass(frozen=True, eq=False)
class Read:
    """What a layer was given once: its shape and, for each axis in front of the features, a number a place."""

    shape: torch.Size
    marks: tuple[Tensor, ...]

    @classmethod
    def of(cls, layer: nn.Module, value: Tensor) -> Read:
        """Note down a tensor that a layer is given; of maps, only the first axis may hold examples."""
        is_map = isinstance(layer, torch.nn.modules.conv._ConvNd)  # noqa: SLF001 - all its kinds
        leading = min(1, value.dim()) if is_map else max(0, value.dim() - 1)
        flat = value.detach().flatten(leading).to(torch.float32)
        # sums would vanish behind a normalisation
        weights = torch.arange(1.0, flat.shape[-1] + 1, device=flat.device).sin()
        marks = (flat @ weights).unsqueeze(-1)
        axes = range(leading)
        return cls(value.shape, tuple(marks.movedim(a, 0).flatten(1).sum(1).cpu() for a in axes))


Reads: TypeAlias = Mapping[str, Sequence[tuple[Read, ...]]]
"""Layer -> for each call, the tensors it was given."""


@dataclass(frozen=True)
class Pass:
    """One call of a network: what its layers were given, and the size of its output's first axis."""

    reads: Reads
    outputs: int | None


def example_axes(
    example_inputs: tuple[Any, ...],
    examples: int | None,
    seen: Pass,
    watched: Callable[[tuple[Any, ...]], Pass],
) -> tuple[dict[str, int], dict[str, str]]:
    """On which axis each layer has the examples, in all its calls and all that it reads.

    Args:
        example_inputs: the positional arguments of one call of the network.
        examples: how many it is about; None: no tensor says.
        seen: that call.
        watched: a call with others, if the network takes them.

    Returns:
        Name -> axis; name -> why there is none that a scale's draw fits.
    """
    if examples is None:
        return dict.fromkeys(seen.reads, 0), {}
    grown = _with_one_more(example_inputs, examples, watched)
    hint = "try an example whose examples differ, and are not as many as its positions"
    if grown is not None and (seen.outputs, grown.outputs) != (examples, examples + 1):
        grown = None
        hint = "the first axis of the output does not count them"
    axes: dict[str, int] = {}
    reasons: dict[str, str] = {}
    for name, calls in seen.reads.items():
        others = grown.reads.get(name, ()) if grown is not None else calls
        found = {_NOWHERE}
        if [len(call) for call in calls] == [len(call) for call in others]:
            pairs = zip(_flat(calls), _flat(others), strict=True)
            found = {_axis(read, other, examples) for read, other in pairs}
        if _UNSURE in found:
            reasons[name] = f"on which axis {name} reads the examples cannot be told: {hint}"
        elif len(found) > 1 or _NOWHERE in found:
            reasons[name] = f"{name} does not read the examples on one axis"
        else:
            axes[name] = found.pop()
    return axes, reasons


def size_of_batch(example_inputs: tuple[Any, ...], seen: Pass) -> int:
    """Which of the sizes in a call (``sizes_in``) is the number of examples.

    The one that most layers see on an axis of what they read; of several that which the output has on its first
    axis, then that which most layers see on theirs.
    """
    firsts = [{read.shape[:1] for read in _flat(calls)} for calls in seen.reads.values()]
    axes = [{len(m) for read in _flat(calls) for m in read.marks} for calls in seen.reads.values()]

    def likely(size: int) -> tuple[int, bool, int]:
        somewhere = sum(size in lengths for lengths in axes)
        return somewhere, size == seen.outputs, sum(first == {(size,)} for first in firsts)

    ranks = [likely(size) for size in sizes_in(example_inputs)]
    return ranks.index(max(ranks)) if ranks else 0


def _with_one_more(
    inputs: tuple[Any, ...], examples: int, watched: Callable[[tuple[Any, ...]], Pass]
) -> Pass | None:
    """What is read with one example more, in all inputs or in the first; None if neither works."""
    for count in (len(inputs), 1):
        more = [one_more(value, examples) for value in inputs[:count]]
        try:
            return watched((*more, *inputs[count:]))
        except Exception:  # noqa: BLE001 - forward is the user's, it may raise anything
            continue
    return None


def _flat(calls: Sequence[tuple[Read, ...]]) -> list[Read]:
    return [read for call in calls for read in call]


def _axis(read: Read, other: Read, examples: int) -> int:
    """The axis with the examples in ``read``, where ``other`` has one more (or is the same: unknown)."""
    fitting = [axis for axis, mark in enumerate(read.marks) if len(mark) == examples]
    if other is read:
        return 0 if fitting == [0] else _UNSURE if fitting else _NOWHERE
    if len(read.shape) != len(other.shape):
        return _NOWHERE
    sizes = enumerate(zip(read.shape, other.shape, strict=True))
    changed = [axis for axis, (size, new) in sizes if size != new]
    if len(changed) != 1 or changed[0] not in fitting:
        return _NOWHERE
    (axis,) = changed
    if other.shape[axis] != examples + 1:
        return _NOWHERE
    sure = axis == 0 and fitting == [0]
    return axis if sure or _is_same(read.marks[axis], other.marks[axis][:examples]) else _UNSURE


def _is_same(before: Tensor, now: Tensor) -> bool:
    """Are the numbers of the examples what they were, and tell examples apart?"""
    spread = float(before.std()) if len(before) > 1 else float(before.abs().max())
    tells = spread > 1e-5 * float(before.abs().max())
    return tells and float((now - before).abs().max()) <= _CLOSE * spread


def examples_in(values: Iterable[Any], at: int = 0) -> int | None:
    """How many examples a call is about; None: it is about no tensor at all.

    Args:
        values: the arguments of the call.
        at: which of the sizes in them it is.
    """
    sizes = sizes_in(values)
    return None if not sizes else sizes[at if at < len(sizes) else 0]


def sizes_in(values: Iterable[Any]) -> list[int]:
    """What may be the number of examples: the first axis of each tensor, or the length of a list.

    A list of tensors of up to three axes (images of different sizes) may be one of examples; its length
    comes before their sizes. One of larger tensors (maps of several scales) has the examples on their
    first axis.

    Example:
        >>> sizes_in(([torch.ones(4, 5), torch.ones(4, 5)], torch.ones(3)))
        [2, 4, 4, 3]
    """
    found: list[int] = []
    for value in values:
        if isinstance(value, Tensor):
            found += value.shape[:1]
        elif isinstance(value, Mapping):
            found += sizes_in(value.values())
        elif isinstance(value, list | tuple):
            if value and isinstance(value[0], Tensor) and value[0].dim() <= 3:
                found.append(len(value))
            found += sizes_in(value)
    return found


def one_more(value: Any, examples: int) -> Any:
    """An argument with its first example once more at the end; others as they are."""
    if isinstance(value, Tensor):
        is_batch = value.dim() > 0 and value.shape[0] == examples > 0
        return torch.cat([value, value[:1]]) if is_batch else value
    if isinstance(value, Mapping):
        return {key: one_more(part, examples) for key, part in value.items()}
    if isinstance(value, list | tuple) and value and isinstance(value[0], Tensor):
        if value[0].dim() > 3:
            return [one_more(part, examples) for part in value]
        return [*value, value[0]] if len(value) == examples else value
    return value
