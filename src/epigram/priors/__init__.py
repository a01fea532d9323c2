"""Group-scale priors, one per file."""

from __future__ import annotations

from epigram.priors.base import GroupScale
from epigram.priors.horseshoe import GroupHorseshoe
from epigram.priors.jeffreys import GroupJeffreys
from epigram.priors.sharing import shared_draws
from epigram.priors.unit import UnitScale

__all__ = ["GroupHorseshoe", "GroupJeffreys", "GroupScale", "UnitScale", "shared_draws"]
