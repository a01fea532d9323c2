"""``checkpoints/<stage>.pt``: the stage's whole state, replaced atomically."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from epigram.config import differences, to_dict
from epigram.errors import RunFolderError
from epigram.train.run import Run
from epigram.train.settings import TrainSettings
from epigram.train.storage import load_state, save_state

OWN = ("random", "place")
"""What each process has a state of its own of."""


def checkpoint_path(folder: Path, stage: str) -> Path:
    """Where a stage's checkpoint is."""
    return folder / "checkpoints" / f"{stage}.pt"


def save_checkpoint(folder: Path, run: Run, *, about: dict[str, Any]) -> None:
    """Replace the stage's checkpoint by the run's present state.

    Raises:
        StorageError: the disk is full; the previous checkpoint is untouched.
    """
    path = checkpoint_path(folder, about["stage"])
    state = run.state()
    own = run.team.gathered({name: state[name] for name in OWN})
    if run.team.size > 1:
        state["processes"] = own
    run.team.led(lambda: save_state(path, {"about": about, "state": state}))


def load_checkpoint(
    folder: Path, *, about: dict[str, Any], device: torch.device
) -> dict[str, Any] | None:
    """The state the stage's checkpoint holds, or None if there is none yet.

    Raises:
        RunFolderError: it was written under other settings; the message lists them.
        FormatError: it is damaged.
    """
    path = checkpoint_path(folder, about["stage"])
    if not path.exists():
        return None
    loaded = load_state(path, device=device)
    differ = differences(loaded["about"], about)
    if differ:
        listed = "; ".join(
            f"{key}: {old!r} there, {new!r} now" for key, (old, new) in differ.items()
        )
        raise RunFolderError(
            f"{path} belongs to a run with other settings ({listed}). "
            "Choose another folder, or the settings it was started with"
        )
    state: dict[str, Any] = loaded["state"]
    return state


def state_of(state: dict[str, Any], rank: int) -> dict[str, Any]:
    """One process's part of a state that several wrote together."""
    return {**state, **state["processes"][rank]} if "processes" in state else state


def about_run(
    *, stage: str, seed: int, settings: TrainSettings, train_set_size: int, processes: int = 1
) -> dict[str, Any]:
    """What must be the same for a checkpoint to be gone on from; bookkeeping may differ."""
    computed = {f.name for f in fields(settings) if not f.metadata.get("bookkeeping")}
    return {
        "stage": stage,
        "seed": seed,
        "train_set_size": train_set_size,
        "settings": {k: v for k, v in to_dict(settings).items() if k in computed},
        **({"processes": processes} if processes > 1 else {}),
    }
