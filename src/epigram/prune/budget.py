"""The units worth keeping within a budget: of multiply-accumulates, parameters, or any other cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from torch import nn

from epigram.convert import Twin
from epigram.prune.masks import Removability, keep_below, settle
from epigram.records import BoolArray
from epigram.structure.copying import copied

Cost = Callable[[nn.Module], float]
"""What a plain network costs."""

_LEAST_PRICE = 1e-12


def unit_prices(twin: Twin, cost: Cost) -> dict[str, float]:
    """Per scale, what one of its units costs in the network as it is now.

    Args:
        twin: it is not changed.
        cost: of a plain network.
    """
    whole = cost(twin.plain())
    prices = {}
    for name, values in twin.removability().items():
        keep = np.ones(len(values), bool)
        if len(values) > 1:
            keep[int(np.argmax(values))] = False
        prices[name] = whole - cost(_without(twin, {name: keep}))
    return prices


def keep_within(
    twin: Twin,
    cost: Cost,
    budget: float,
    *,
    prices: Mapping[str, float] | None = None,
    removability: Removability | None = None,
) -> dict[str, BoolArray]:
    """Which units stay so that the network costs at most ``budget``: the most needed for their price.

    At rest, normal-Jeffreys' log alpha is the log of the KL's pull over the unit's worth
    (``worth_nats``), but for a constant; adding the log of its price orders units by price per worth. One cut on
    that is found for the whole network.

    Args:
        twin: it is not changed.
        cost: of a plain network; more units cost more.
        budget: the largest cost allowed. Where not even one unit per group fits, those stay.
        prices: per scale, what a unit costs (``unit_prices``); None = all the same.
        removability: None = the twin's; where training was too short for log alpha to come to rest,
            ``removability_at_rest`` of ``unit_worths``.
    """
    shifts = {name: np.log(max(price, _LEAST_PRICE)) for name, price in (prices or {}).items()}
    known = twin.removability() if removability is None else removability
    scores = {name: values + shifts.get(name, 0.0) for name, values in known.items()}
    cuts = np.unique(np.concatenate([np.zeros(0), *scores.values()]))
    low, high = 0, len(cuts) - 1  # the cut at low is as small as it gets
    found = settle(twin, keep_below(scores, cuts[0] if len(cuts) else np.inf))
    while low < high:
        middle = (low + high + 1) // 2
        keep = settle(twin, keep_below(scores, cuts[middle]))
        if cost(_without(twin, keep)) <= budget:
            low, found = middle, keep
        else:
            high = middle - 1
    return found


def _without(twin: Twin, keep: Mapping[str, BoolArray]) -> nn.Module:
    small = copied(twin)
    small.shrink_(keep)
    return small.plain()
