"""``failure-0001/``: all that is needed to run the step again that went wrong.

``state.pt``  the state before the step and its batch; ``bundle.json``  the settings, the place, and
what was found. The second is written last: a folder without it is not a bundle.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import epigram
from epigram import atomic
from epigram.config import from_dict, to_dict
from epigram.errors import FormatError
from epigram.train.examine import Finding
from epigram.train.run import Run
from epigram.train.settings import TrainSettings
from epigram.train.storage import load_state, save_state


@dataclass(frozen=True)
class Bundle:
    """A failure read back from disk."""

    path: Path
    about: dict[str, Any]
    settings: TrainSettings
    finding: Finding | None
    state: dict[str, Any]
    x: Tensor
    y: Tensor


def write_bundle(
    folder: Path,
    run: Run,
    *,
    stage: str,
    seed: int,
    state: dict[str, Any],
    batch: tuple[Tensor, Tensor],
    finding: Finding | None,
) -> Path:
    """Write the next free ``failure-NNNN`` below ``folder`` and return its path.

    Raises:
        StorageError: the disk is full.
    """
    place = state["place"]
    about = {
        "stage": stage,
        "seed": seed,
        "epoch": place["epoch"] + 1,
        "step": place["step"] + 1,
        "batch": place["batch"],
        "steps_per_epoch": run.schedule.steps_per_epoch,
        "device": str(run.device),
        "settings": to_dict(run.settings),
        "finding": None if finding is None else finding.to_dict(),
        "versions": {"epigram": epigram.__version__, "torch": str(torch.__version__)},
    }
    path = _next_free(folder)
    save_state(path / "state.pt", {"state": state, "x": batch[0], "y": batch[1]})
    atomic.write_json(path / "bundle.json", about)
    return path


def read_bundle(path: Path, *, device: torch.device) -> Bundle:
    """Read a bundle; no code in it is run.

    Raises:
        FormatError: it is not a bundle, or is damaged.
    """
    try:
        about = json.loads((path / "bundle.json").read_text("utf-8"))
        finding = about["finding"]
        loaded = load_state(path / "state.pt", device=device)
        return Bundle(
            path=path,
            about=about,
            settings=from_dict(TrainSettings, about["settings"]),
            finding=None if finding is None else Finding.from_dict(finding),
            state=loaded["state"],
            x=loaded["x"],
            y=loaded["y"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(
            f"{path}: not a failure bundle ({error}); expected a folder such as failure-0001 with "
            "bundle.json and state.pt"
        ) from error


def _next_free(folder: Path) -> Path:
    number = 1
    while (folder / f"failure-{number:04d}").exists():
        number += 1
    return folder / f"failure-{number:04d}"
