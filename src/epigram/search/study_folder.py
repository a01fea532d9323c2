"""``study.json``: what of a study can never change, and whose folder it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from epigram import atomic, config
from epigram.errors import RunFolderError
from epigram.search.common import Common
from epigram.search.history import Script
from epigram.search.objective import Objective
from epigram.search.settings import PROTOCOL, StudySettings
from epigram.search.space import Space

STUDY: Final = "study.json"


def fixed(
    space: Space, objective: Objective, settings: StudySettings, common: Common
) -> dict[str, Any]:
    """What of a study can never change, as plain data."""
    return {
        "protocol": PROTOCOL,
        "floor": str(objective.floor),
        "space": space.plain(),
        "order": list(space.dimensions),
        "settings": config.to_dict(settings),
        **common.plain(),
    }


def refuse_strangers(folder: Path) -> None:
    """Refuse a folder that holds something, but no study.

    Raises:
        RunFolderError: it does.
    """
    if not folder.exists() or (folder / STUDY).exists():
        return
    others = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
    if set(others) - {"driver.lock"}:
        raise RunFolderError(
            f"{folder} holds {', '.join(others[:3])} but no {STUDY}: it is not a study's folder. "
            "Choose a new or an empty one"
        )


def claim(folder: Path, plain: Mapping[str, Any]) -> None:
    """Write ``study.json``, or find it as it would be written.

    Raises:
        RunFolderError: the folder belongs to another study; the message says in what they differ.
    """
    path = folder / STUDY
    if not path.exists():
        atomic.write_json(path, dict(plain))
        return
    try:
        stored = json.loads(path.read_text("utf-8"))
        differ = list(config.differences(stored, plain).items())
    except (ValueError, AttributeError) as error:
        raise RunFolderError(f"{path}: not a study: {error}") from error
    if differ:
        shown = "; ".join(f"{key}: {a!r} there, {b!r} now" for key, (a, b) in differ[:4])
        raise RunFolderError(
            f"{folder} belongs to another study ({shown}{'; …' if differ[4:] else ''}). Choose another "
            "folder, or the settings it was begun with"
        )


def check_code(folder: Path, opened: Mapping[str, Any] | None, code: str) -> None:
    """Refuse to go on with other code.

    Raises:
        RunFolderError: the code that trials run has changed.
    """
    if opened is not None and opened["code"] != code:
        raise RunFolderError(
            f"{folder}: the code that trials run has changed since the study was begun, so new trials "
            "could not be compared with the old ones. Begin another study, or go on all the same with "
            "allow_code_change (--allow-code-change)"
        )


def check_scripts(folder: Path, known: list[Script] | None, scripts: list[Script]) -> None:
    """Refuse to go on with other files than those that trials were run with; where they lie is all the same.

    Raises:
        RunFolderError: the content of one has changed, or one came or went.
    """
    if known is None or [one["sha256"] for one in known] == [one["sha256"] for one in scripts]:
        return
    shown = [
        ", ".join(f"{one['name']} (SHA-256 {one['sha256'][:12]}…)" for one in some) or "no file"
        for some in (known, scripts)
    ]
    raise RunFolderError(
        f"{folder}: the files that trials run have changed since the study was begun: {shown[0]} there, "
        f"{shown[1]} now. Put them back, begin another study, or go on all the same with "
        "allow_code_change: new trials are new runs"
    )
