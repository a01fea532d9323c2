"""The confirmed file, beside what is known of it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from epigram import atomic
from epigram.search.space import widths_of
from epigram.search.study import Study

WINNER: Final = "winner"


def keep(study: Study) -> Path | None:
    """Copy the confirmed file to ``winner/`` and say in ``result.json`` what it is.

    Returns:
        The copy; ``result.json`` where the trials name no file; None if nothing is confirmed.
    """
    confirmed = study.history.confirmed
    if confirmed is None or confirmed["run_id"] is None:
        return None
    trial = study.history.trials[confirmed["run_id"]]
    folder = study.folder / WINNER
    (tested,) = (one for one in confirmed["tested"] if one["run_id"] == trial.run_id)
    about = {
        **tested,
        "values": dict(trial.values),
        "widths": widths_of(trial.values),
        "floor": str(study.objective.floor),
        "sentence": confirmed["sentence"],
        "run": str(study.run_folder(trial).relative_to(study.folder)),
    }
    atomic.write_json(folder / "result.json", about)
    source = _within(study.folder, tested.get("file"))
    if source is None:
        return folder / "result.json"
    atomic.write_bytes(folder / source.name, source.read_bytes())
    return folder / source.name


def _within(folder: Path, name: str | None) -> Path | None:
    """The file a trial has named, if it is there and inside the study's folder."""
    if name is None:
        return None
    path = (folder / name).resolve()
    inside = path.is_relative_to(folder.resolve())
    return path if inside and path.is_file() else None
