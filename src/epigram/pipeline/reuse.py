"""What another run has already found out.

A structure pass that no floor steers is the same for every floor, one that a floor steers the same for that floor: a run
that takes its plain network from a compressed one takes that one's structure pass too, and ends with the same file to the
byte. Where a floor steers, the multipliers it ended with are where another may begin.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from epigram import atomic
from epigram.errors import RunFolderError
from epigram.pipeline.job import PLAIN, Job
from epigram.train import read_config, read_metrics
from epigram.train.checkpoint import checkpoint_path

STAGE: Final = "structure"
STEERED: Final = (STAGE, "bits")
_WHOLE = ("recipe", "build", "preprocess", "augment", "loss_fn", "code", "network")
_SETTINGS = ("seed", "posterior", "structure", "prune", "device")
_DATA = ("fit", "control")
_NOT_OF_THE_STAGE = ("bits", "cycle_rate")


def take_structure(job: Job, source: Path) -> bool:
    """Copy the structure pass of ``source`` if this run's would be the same; was it?

    The checkpoint comes last, so that a kill in between leaves a pass that has not begun.
    """
    mine, theirs = (checkpoint_path(folder, STAGE) for folder in (job.folder, source))
    if mine.exists() or not theirs.exists() or not _is_the_same(job, source):
        return False
    copy_curves(job.folder, source, STAGE)
    mine.parent.mkdir(exist_ok=True)
    atomic.write_bytes(mine, theirs.read_bytes())
    return True


def last_weights(source: Path) -> dict[str, float]:
    """By stage, the weight of the complexity that a steered pass of another run ended with.

    Raises:
        RunFolderError: it steered none.
    """
    settings = read_config(source)["config"]["settings"]
    found = {}
    for stage in STEERED:
        lines = read_metrics(source / "metrics.jsonl", stage=stage)
        moved = [line["multiplier"] for line in lines if line.get("multiplier") is not None]
        if moved:
            found[stage] = settings[stage]["kl_weight"] * moved[-1]
    if not found:
        raise RunFolderError(
            f"{source}: no multiplier was moved there; expected a run of `epigram compress` that a floor steered, or "
            "steer.warm off"
        )
    return found


def copy_curves(folder: Path, source: Path, stage: str) -> None:
    """Take over the frames and the lines of metrics that another run has of a stage."""
    for frame in sorted((source / "frames").glob(f"{stage}-*.npz")):
        (folder / "frames").mkdir(exist_ok=True)
        shutil.copyfile(frame, folder / "frames" / frame.name)
    done = [line for line in _lines(source) if json.loads(line).get("stage") == stage]
    if done:
        kept = [line for line in _lines(folder) if json.loads(line).get("stage") != stage]
        atomic.write_text(folder / "metrics.jsonl", "".join(kept + done))


def _is_the_same(job: Job, source: Path) -> bool:
    """Is the other run finished, and equal in all that a structure pass depends on?"""
    if not (source / "result.json").exists():
        return False
    if (source / PLAIN).read_bytes() != (job.folder / PLAIN).read_bytes():
        return False
    try:
        mine, theirs = (_relevant(read_config(folder)["config"]) for folder in (job.folder, source))
    except (RunFolderError, KeyError):
        return False
    return mine == theirs


def _relevant(config: Mapping[str, Any]) -> dict[str, Any]:
    settings = config["settings"]
    return {
        **{key: config[key] for key in _WHOLE},
        **{key: settings[key] for key in _SETTINGS},
        **{key: config["data"][key] for key in _DATA},
        "steered": _steering(config) if settings["steer"][STAGE] else None,
    }


def _steering(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a steered structure pass depends on besides: validation says how much harder it is than control."""
    steer = config["settings"]["steer"]
    return {
        "floor": config["floor"],
        "metrics": config["metrics"],
        "weights_from": config.get("weights_from"),
        "validation": config["data"]["validation"],
        **{key: value for key, value in steer.items() if key not in _NOT_OF_THE_STAGE},
    }


def _lines(folder: Path) -> list[str]:
    path = folder / "metrics.jsonl"
    return path.read_text("utf-8").splitlines(keepends=True) if path.exists() else []
