"""What runs a trial, whatever it is written in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from epigram.runner import Job
from epigram.search.asked import Asked

FOLDER: Final = "{folder}"
"""Stands in a command for the attempt's folder."""


@dataclass(frozen=True)
class Command:
    """What runs a trial.

    Attributes:
        argv: the command; ``{folder}`` stands for the attempt's folder, which the environment variable
            ``EPIGRAM_TRIAL`` names too.
        env: what its environment has beyond ours.
        grace_s: seconds between being asked to stop and being killed.
        wall_s: seconds after which a trial has failed; None = never.
        patience: without ``wall_s`` a trial has failed after so many times the median of the finished
            ones, from a minute on, once three have finished; None = never.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    grace_s: float = 20.0
    wall_s: float | None = None
    patience: float | None = None

    def job(self, asked: Asked) -> Job:
        """The command for one attempt, as an executor takes it."""
        where = str(asked.folder.resolve())
        return Job(
            asked.run_id,
            asked.attempt,
            tuple(word.replace(FOLDER, where) for word in self.argv),
            asked.run_folder.resolve(),
            {**self.env, "EPIGRAM_TRIAL": where},
            self.grace_s,
            self.wall_s,
        )
