"""``study.json``: what of a study can never change, and whose folder it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from epigram import atomic
from epigram.config import differences
from epigram.errors import RunFolderError

STUDY: Final = "study.json"


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
        differ = list(differences(stored, plain).items())
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
