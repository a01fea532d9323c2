"""A trial to be run, as whoever runs it gets it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epigram.search.dimensions import Value


@dataclass(frozen=True)
class Asked:
    """A trial to be run: what to train with, and where.

    Attributes:
        run_id: names the run.
        number: 0, 1, 2, … in the order of asking.
        values: the searched settings.
        config: everything, as ``config.json`` in ``folder`` has it.
        folder: ``config.json`` in; ``metrics.jsonl`` and ``result.json`` out.
        run_folder: where checkpoints go, for the attempts to come.
        attempt: 1, 2, …; see ``epigram.search.folder``.
        seed: to train with.
    """

    run_id: str
    number: int
    values: Mapping[str, Value]
    config: Mapping[str, Any]
    folder: Path
    run_folder: Path
    attempt: int
    seed: int
