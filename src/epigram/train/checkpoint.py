"""``checkpoints/<stage>.pt``: the stage's whole state, replaced atomically.

The one before stays as ``<stage>.previous.pt``, for the day on which the newest cannot be read.
"""

from __future__ import annotations

import logging
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from epigram import atomic
from epigram.config import differences, to_dict
from epigram.errors import FormatError, RunFolderError
from epigram.train.run import Run
from epigram.train.settings import TrainSettings
from epigram.train.storage import load_state, save_state

_LOG = logging.getLogger(__name__)
OWN = ("random", "place")
"""What each process has a state of its own of."""


def checkpoint_path(folder: Path, stage: str) -> Path:
    """Where a stage's checkpoint is."""
    return folder / "checkpoints" / f"{stage}.pt"


def previous_path(folder: Path, stage: str) -> Path:
    """Where the checkpoint before that one is."""
    return folder / "checkpoints" / f"{stage}.previous.pt"


def save_checkpoint(folder: Path, run: Run, *, about: dict[str, Any]) -> None:
    """Replace the stage's checkpoint by the run's present state; the last but one goes.

    Raises:
        StorageError: the disk is full; the previous checkpoint is untouched.
    """
    path = checkpoint_path(folder, about["stage"])
    state = run.state()
    own = run.team.gathered({name: state[name] for name in OWN})
    if run.team.size > 1:
        state["processes"] = own
    previous = previous_path(folder, about["stage"])
    run.team.led(lambda: save_state(path, {"about": about, "state": state}, previous=previous))


def load_checkpoint(
    folder: Path, *, about: dict[str, Any], device: torch.device
) -> dict[str, Any] | None:
    """The state the stage's checkpoint holds, or None if there is none yet.

    If the newest is damaged, the previous one takes its place, with one line of warning.

    Raises:
        RunFolderError: it was written under other settings; the message lists them.
        FormatError: it is damaged, and there is no previous one that is not.
    """
    newest, previous = (where(folder, about["stage"]) for where in (checkpoint_path, previous_path))
    try:
        return _state_in(newest, about=about, device=device)
    except FileNotFoundError:  # none was written, or a kill came between two renames
        return _state_in(previous, about=about, device=device) if previous.exists() else None
    except FormatError as damage:
        try:
            state = _state_in(previous, about=about, device=device)
        except FileNotFoundError:
            raise FormatError(f"{damage}; delete it to start this stage anew") from damage
        except FormatError as too:
            raise FormatError(
                f"{damage}, and so is {previous.name}; delete both to start this stage anew"
            ) from too
        _LOG.warning("%s; going on from %s, the checkpoint before it", damage, previous.name)
        with atomic.permitted():
            previous.replace(newest)  # so that the next one does not push it out
        return state


def _state_in(path: Path, *, about: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """What one file holds, if it belongs to this run."""
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
