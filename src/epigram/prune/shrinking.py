"""When a unit goes during training: its scale has been noise for some epochs in a row.

``docs/training.md`` derives the rule; ``benchmarks/recovery.py`` shows which units it would have removed wrongly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from epigram.convert import Cut, Twin
from epigram.convert.settings import PriorName
from epigram.prune.masks import exact, keep_below, rounded, settle
from epigram.prune.settings import PruneSettings

Removabilities: TypeAlias = dict[str, NDArray[np.float64]]
"""Per scale, one figure per dense unit."""

SUGGESTED_CUT: Mapping[PriorName, float] = {
    # log alpha 3: the scale's standard deviation is 4.5 times its mean, the sign of the unit random
    "group-jeffreys": 3.0,
    # the mode of the scale has fallen to e⁻⁴ of where it started
    "group-horseshoe": 4.0,
    "unit": np.inf,
}


class Shrinker:
    """Watches a twin and removes what has been noise for long enough.

    A unit counts as noise in an epoch if its removability is beyond the cut; one epoch below it
    resets the count. What would not be exact with the number of units that is left (a width that
    ``forward`` asks for) is not cut in this epoch. ``counts`` (in the coordinates of what is left) and ``seen`` belong into a
    checkpoint, so that a resumed run is the same run.

    Args:
        prior: whose suggested cut applies where the settings name none.
        settings: cut and patience.

    Attributes:
        counts: per scale, for how many epochs each unit has been noise.
        seen: per scale, each dense unit's last removability; of a removed unit, that at which it went.
    """

    def __init__(self, prior: PriorName, settings: PruneSettings) -> None:
        self.enabled = settings.shrink
        asked = settings.shrink_cut
        self.cut = SUGGESTED_CUT[prior] if asked is None else asked
        self.patience = settings.shrink_patience
        self.round_to = settings.round_to
        self.counts: dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]] = {}
        self.seen: Removabilities = {}

    def look(self, twin: Twin) -> Removabilities:
        """Note the removability of every unit that is left; returns those, in today's coordinates."""
        now = twin.removability()
        for name, alive in twin.kept_masks().items():
            if name not in self.seen:
                self.seen[name] = np.full(len(alive), np.nan)
            self.seen[name][alive] = now[name]
        return now

    def step(self, twin: Twin) -> list[Cut]:
        """Count one epoch; shrink the twin if something has to go. Returns what was cut."""
        removability = self.look(twin)
        if not self.enabled:
            return []
        keep = {}
        for name, values in removability.items():
            counts = self.counts.get(name, np.zeros(len(values), np.int64))
            self.counts[name] = np.where(values > self.cut, counts + 1, 0)
            keep[name] = self.counts[name] < self.patience
            if not keep[name].any():
                keep[name] = keep_below({name: values}, -np.inf)[name]
        keep = exact(twin, rounded(twin, settle(twin, keep), removability, self.round_to))
        if all(mask.all() for mask in keep.values()):
            return []
        self.counts = {name: counts[keep[name]] for name, counts in self.counts.items()}
        return twin.shrink_(keep, tried=True)
