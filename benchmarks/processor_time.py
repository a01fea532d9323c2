"""Processor seconds of the stages of a run, kept beside it: other work on the machine disturbs them less than the clock's."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from epigram import atomic
from epigram.pipeline.job import Job
from epigram.train.checkpoint import checkpoint_path

CPU = "cpu.json"
Made = TypeVar("Made")


def timed(job: Job, stage: str, work: Callable[[], Made]) -> Made:
    """What a stage makes; its processor seconds are noted, unless it was begun by an earlier process."""
    job.splits  # noqa: B018  (loaded before the clock runs)
    whole = not checkpoint_path(job.folder, stage).exists()
    begin = time.process_time()
    made = work()
    if whole:
        seconds = round(time.process_time() - begin, 3)
        atomic.write_json(job.folder / CPU, {**noted(job.folder), stage: seconds})
    return made


def noted(folder: Path) -> dict[str, float]:
    """The processor seconds of a run's stages, as far as they are known."""
    path = folder / CPU
    found: dict[str, float] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return found
