"""Posterior -> which units stay."""

from __future__ import annotations

from epigram.prune.budget import Cost, keep_within, unit_prices
from epigram.prune.cut import Candidate, Decision, choose_cut
from epigram.prune.masks import keep_below, settle
from epigram.prune.settings import PruneSettings
from epigram.prune.shrinking import Removabilities, Shrinker
from epigram.prune.worth import removability_at_rest, unit_worths, worth_nats

__all__ = [
    "Candidate",
    "Cost",
    "Decision",
    "PruneSettings",
    "Removabilities",
    "Shrinker",
    "choose_cut",
    "keep_below",
    "keep_within",
    "removability_at_rest",
    "settle",
    "unit_prices",
    "unit_worths",
    "worth_nats",
]
