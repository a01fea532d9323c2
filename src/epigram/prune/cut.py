"""One cut on removability for the whole network, chosen where the control split says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import nn

from epigram.convert import Twin
from epigram.prune.masks import keep_below, rounded, settle
from epigram.prune.settings import PruneSettings
from epigram.records import BoolArray, Floor
from epigram.structure.copying import copied


@dataclass(frozen=True, eq=False)
class Candidate:
    """A cut, the network it would leave, and what that network is worth on the control split."""

    cut: float
    keep: dict[str, BoolArray]
    parameters: int
    metric: float


@dataclass(frozen=True, eq=False)
class Decision:
    """The cut that was chosen, and all that were tried."""

    chosen: Candidate
    uncut_metric: float
    tried: tuple[Candidate, ...]


def choose_cut(
    twin: Twin,
    measure: Callable[[nn.Module], float],
    floor: Floor,
    settings: PruneSettings | None = None,
) -> Decision:
    """The cut that leaves the fewest parameters among those that the control split accepts.

    A cut is accepted if the network it leaves (posterior mean, before any fine-tuning) meets the
    floor, or loses at most ``tolerance`` against the network that is not cut. The twin itself is not
    changed.

    Args:
        twin: the trained twin.
        measure: the floor's metric of a plain network, on the control split.
        floor: what has to be met in the end.
        settings: number of candidates, tolerance, and what the numbers of units are rounded to.
    """
    settings = settings or PruneSettings()
    uncut = measure(twin.plain())
    removability = twin.removability()
    tried: dict[tuple[int, ...], Candidate] = {}
    for cut in candidate_cuts(twin, settings.candidates):
        keep = settle(twin, keep_below(removability, cut))
        keep = rounded(twin, keep, removability, settings.round_to)
        key = tuple(int(mask.sum()) for mask in keep.values())
        if key not in tried:
            small = copied(twin)
            small.shrink_(keep)
            tried[key] = Candidate(cut, keep, small.effective_parameters(), measure(small.plain()))
    loss_allowed = settings.tolerance
    accepted = [
        c
        for c in tried.values()
        if floor.met(c.metric) or loss(floor, c.metric, uncut) <= loss_allowed
    ]
    pool = accepted or [max(tried.values(), key=lambda c: c.cut)]
    chosen = min(pool, key=lambda c: (c.parameters, c.cut))
    return Decision(chosen, uncut, tuple(sorted(tried.values(), key=lambda c: c.cut)))


def loss(floor: Floor, metric: float, reference: float) -> float:
    """How much worse ``metric`` is than ``reference``, in the metric's units."""
    return reference - metric if floor.larger_is_better else metric - reference


def candidate_cuts(twin: Twin, count: int) -> list[float]:
    """Cuts that spread evenly over the removabilities that occur, and one that cuts nothing."""
    values = np.concatenate([np.zeros(0), *twin.removability().values()])
    values = np.unique(values[np.isfinite(values)])
    if not len(values):
        return [np.inf]
    between = (values[1:] + values[:-1]) / 2
    quantiles = np.quantile(between, np.linspace(0, 1, count)) if len(between) else between
    return [*np.unique(quantiles).tolist(), float(values[-1]) + 1.0]
