"""What runs a trial, whatever it is written in."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from epigram.runner import Job
from epigram.search.asked import Asked
from epigram.search.history import Script
from epigram.search.identity import file_digest

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
        files: whose content is part of what trials are, wherever they lie; None = those that ``argv`` names
            by their whole paths (``/a/train.py``, ``--config=/a/b.yaml``), without installed programs.
            What a script imports is not followed: see ``code`` of ``Study``.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    grace_s: float = 20.0
    wall_s: float | None = None
    patience: float | None = None
    files: tuple[str, ...] | None = None

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

    def scripts(self) -> list[Script]:
        """The files that are part of what trials are, with their SHA-256.

        Raises:
            ConfigError: one of ``files`` cannot be read.
        """
        paths = _named(self.argv) if self.files is None else [Path(name) for name in self.files]
        return [{"name": path.name, "sha256": file_digest(path)} for path in paths]


def _named(argv: tuple[str, ...]) -> list[Path]:
    """Files that a command names; trials run elsewhere, so that only whole paths name any."""
    found = []
    for word in argv:
        path = Path(word.partition("=")[2] if word.startswith("-") else word)
        if path.is_absolute() and path.is_file() and not _is_installed(path):
            found.append(path)
    return found


def _is_installed(path: Path) -> bool:
    """Is it the interpreter, or a program that is found without its path?"""
    known = shutil.which(path.name)
    return path.samefile(sys.executable) or (known is not None and path.samefile(known))
