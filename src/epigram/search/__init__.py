"""Many runs: the smallest file subject to a floor, over hyper-parameters and architecture widths.

``Study`` asks and tells, for any training script; ``Driver`` runs its trials on an executor's slots. The
ledger of a study is the truth: samplers, forecasts and reports are derived from it.
"""

from __future__ import annotations

from epigram.search.asked import Asked
from epigram.search.command import Command
from epigram.search.dimensions import Choice, Real, Whole
from epigram.search.driver import Driver
from epigram.search.history import History, Outcome, Point, Trial
from epigram.search.objective import Objective
from epigram.search.presets import preset
from epigram.search.settings import StudySettings
from epigram.search.space import Space
from epigram.search.stopping import StopRule
from epigram.search.study import Study

__all__ = [
    "Study",
    "StudySettings",
    "Space",
    "Real",
    "Whole",
    "Choice",
    "Asked",
    "Outcome",
    "Point",
    "Trial",
    "History",
    "Objective",
    "StopRule",
    "Driver",
    "Command",
    "preset",
]
