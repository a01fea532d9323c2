"""From the small network to the file: one ladder of prices, the coarsest rung that holds the floor."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from torch import nn

from epigram import artifact, codec
from epigram.convert import Twin
from epigram.pipeline.job import Job
from epigram.quantize import ToQuantise, quantise
from epigram.records import FileContents, Floor, GroupEdit
from epigram.structure import followed_numbers, state_tensors


@dataclass(frozen=True, eq=False)
class Rung:
    """One price, the file it gives, and what the decoded network is worth.

    Attributes:
        price: nats of likelihood per nat of code; None = the bits pass made the file.
        contents: what the file says.
        predicted_bytes: its size, computed before encoding.
        control: the floor's metric on the control split.
        validation: the same on the validation split; None = it was not asked.
    """

    price: float | None
    contents: FileContents
    predicted_bytes: int
    control: float
    validation: float | None = None


def tensors_of(
    small: nn.Module, twin: Twin, dense_shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, ToQuantise]:
    """The small network's tensors with their posterior spread; counters of batches are left out."""
    posterior, live = twin.posterior(), twin.live_positions()
    found = {}
    for name, tensor in state_tensors(small).items():
        if name.endswith("num_batches_tracked"):
            continue
        known = posterior.get(name)
        found[name] = ToQuantise(
            name=name,
            values=tensor.detach().cpu().numpy(),
            dense_shape=dense_shapes[name],
            std=None if known is None else known.likelihood_std,
            live=live.get(name),
        )
    return found


def choose_file(job: Job, small: nn.Module, twin: Twin) -> tuple[Rung, bool]:
    """The smallest file that holds the floor, and whether it does.

    Prices from the coarsest to the finest form a ladder; the control split finds the coarsest rung
    that holds (by bisection), the validation split judges it and, if it fails there, finer ones in growing strides.

    Returns:
        The rung, and whether validation met the floor; if none does, the rung nearest to it.
    """
    assert job.floor is not None
    settings = job.settings.quantize
    prices = np.geomspace(settings.coarsest, settings.finest, settings.trials).tolist()
    if job.budget is not None:
        rung, within = fit_budget(
            job.budget, len(prices), lambda index: _rung(job, small, twin, prices[index])
        )
        return _judged(job, rung), within
    rung, met = climb(
        job.floor,
        len(prices),
        lambda index: _rung(job, small, twin, prices[index], quick=True),
        lambda rung: _judged(job, rung),
    )
    return replace(rung, predicted_bytes=_bytes(job, rung.contents)), met


def climb(
    floor: Floor, count: int, rung: Callable[[int], Rung], judge: Callable[[Rung], Rung]
) -> tuple[Rung, bool]:
    """The ladder itself; see ``choose_file``.

    Args:
        floor: what must hold.
        count: how many rungs there are, the coarsest first.
        rung: makes one, with its value on the control split.
        judge: adds its value on the validation split.
    """
    made = cache(rung)
    low, high = 0, count - 1
    while low < high:
        middle = (low + high) // 2
        if floor.met(made(middle).control):
            high = middle
        else:
            low = middle + 1
    judged = []
    for index in judged_rungs(low, count):
        judged.append(judge(made(index)))
        if floor.met(value_of(judged[-1])):
            return judged[-1], True
    return max(judged, key=lambda r: margin_of(floor, r)), False


def fit_budget(budget: int, count: int, rung: Callable[[int], Rung]) -> tuple[Rung, bool]:
    """The finest rung that stays within the budget, and whether there is one; else the coarsest."""
    made = cache(rung)
    if made(0).predicted_bytes > budget:
        return made(0), False
    low, high = 0, count - 1
    while low < high:
        middle = (low + high + 1) // 2
        if made(middle).predicted_bytes <= budget:
            low = middle
        else:
            high = middle - 1
    return made(low), True


def judged_rungs(first: int, count: int) -> list[int]:
    """Which rungs validation sees: strides that double, and the finest one in the end.

    Example:
        >>> judged_rungs(3, 20)
        [3, 4, 6, 10, 18, 19]
    """
    strides = (first + 2**k - 1 for k in range(count.bit_length() + 1))
    return sorted({index for index in strides if index < count} | {count - 1})


def decoded(job: Job, contents: FileContents) -> nn.Module:
    """The network that a reader of these contents gets."""
    return artifact.restored(contents, job.build()).eval()


def write_file(job: Job, contents: FileContents) -> Path:
    """Write ``model.epg``."""
    path = job.folder / "model.epg"
    names = list(state_tensors(job.build()))
    artifact.save(contents, path, profile=job.settings.profile, state_names=names)
    return path


def _rung(job: Job, small: nn.Module, twin: Twin, price: float, *, quick: bool = False) -> Rung:
    dense_shapes = artifact.dense_shapes(job.build())
    tensors = quantise(
        tensors_of(small, twin, dense_shapes),
        price=price,
        representable_step=codec.representable_step,
        sweeps=job.settings.quantize.sweeps,
    )
    groups = {group.name for group in twin.dense_structure.groups}
    edits = tuple(
        GroupEdit(name, mask) for name, mask in twin.kept_masks().items() if name in groups
    )
    contents = FileContents(tensors, edits, {"recipe": job.recipe.name}, followed_numbers(small))
    control = job.measure(job.splits.control)(decoded(job, contents))
    return Rung(price, contents, _bytes(job, contents, quick=quick), control)


def _bytes(job: Job, contents: FileContents, *, quick: bool = False) -> int:
    return codec.size_estimate(contents, job.settings.profile, quick=quick).total


def _judged(job: Job, rung: Rung) -> Rung:
    value = job.measure(job.splits.validation)(decoded(job, rung.contents))
    return replace(rung, validation=value)


def value_of(rung: Rung) -> float:
    """The metric on validation; NaN where it was not asked."""
    return math.nan if rung.validation is None else rung.validation


def holds(job: Job, rung: Rung, path: Path) -> bool:
    """Does the file that was written do what was asked: the budget by its own size, the floor on validation?"""
    if job.budget is not None:
        return path.stat().st_size <= job.budget
    assert job.floor is not None
    return job.floor.met(value_of(rung))


def margin_of(floor: Floor, rung: Rung) -> float:
    """How far a rung is from the floor; a NaN is further than anything."""
    margin = floor.margin(value_of(rung))
    return -math.inf if math.isnan(margin) else margin
