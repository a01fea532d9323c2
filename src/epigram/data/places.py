"""Where data sets are looked for, and where they are put."""

from __future__ import annotations

import os
from pathlib import Path


def folders(root: Path | str | None = None) -> list[Path]:
    """The folders in which data sets are looked for, in order.

    ``root`` alone when it is given; otherwise ``$EPIGRAM_DATA``, ``data/`` of the repository when the
    package runs from a clone, and the cache folder.
    """
    if root is not None:
        return [Path(root).expanduser()]
    named = os.environ.get("EPIGRAM_DATA")
    return [*([Path(named).expanduser()] if named else []), *clone_data(), cache_folder()]


def download_folder(root: Path | str | None = None) -> Path:
    """``root``, else ``$EPIGRAM_DATA``, else the cache folder."""
    named = root or os.environ.get("EPIGRAM_DATA")
    return Path(named).expanduser() if named else cache_folder()


def clone_data() -> list[Path]:
    """``data/`` of the repository, when the package runs from a clone."""
    source = Path(__file__).resolve().parents[2]
    return [source.parent / "data"] if source.name == "src" else []


def cache_folder() -> Path:
    """Where epigram keeps what it downloaded or decoded: ``~/.cache/epigram``."""
    return Path.home() / ".cache" / "epigram"
