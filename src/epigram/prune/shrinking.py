"""When a unit goes during training: its scale has been noise for some epochs in a row."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from epigram.convert import Cut, Twin
from epigram.convert.settings import PriorName
from epigram.prune.masks import keep_below, settle
from epigram.prune.settings import PruneSettings

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
    resets the count. Counts shrink with the twin, and start at zero after a resume, which may only
    delay a removal; so ``state`` is part of the checkpoint to keep resumed runs identical.

    Args:
        prior: whose suggested cut applies where the settings name none.
        settings: cut and patience.
    """

    def __init__(self, prior: PriorName, settings: PruneSettings) -> None:
        self.enabled = settings.shrink
        asked = settings.shrink_cut
        self.cut = SUGGESTED_CUT[prior] if asked is None else asked
        self.patience = settings.shrink_patience
        self.counts: dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]] = {}

    def step(self, twin: Twin) -> list[Cut]:
        """Count one epoch; shrink the twin if something has to go. Returns what was cut."""
        if not self.enabled:
            return []
        removability = twin.removability()
        keep = {}
        for name, values in removability.items():
            counts = self.counts.get(name, np.zeros(len(values), np.int64))
            self.counts[name] = np.where(values > self.cut, counts + 1, 0)
            keep[name] = self.counts[name] < self.patience
            if not keep[name].any():
                keep[name] = keep_below({name: values}, -np.inf)[name]
        keep = settle(twin, keep)
        if all(mask.all() for mask in keep.values()):
            return []
        self.counts = {name: counts[keep[name]] for name, counts in self.counts.items()}
        return twin.shrink_(keep)
