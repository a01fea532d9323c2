"""``python -m epigram.cli.trial FOLDER``: one trial of ``epigram search``, in a process of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epigram.cli import asked, guarded
from epigram.errors import ConfigError

if TYPE_CHECKING:
    from epigram.pipeline import Recipe


def run(argv: Sequence[str]) -> int:
    """Run the trial whose folder is named by the argument or by ``EPIGRAM_TRIAL``."""
    named = argv[0] if argv else os.environ.get("EPIGRAM_TRIAL")
    if named is None:
        raise ConfigError("trial: expected the folder of a trial")
    from epigram.search import trial
    from epigram.train import keep_freed_memory

    keep_freed_memory()
    where = Path(named)
    call = trial.read_trial(where)["task"]["call"]
    taken = call.get("from")
    trial.run_trial(where, recipe_of(call), from_folder=None if taken is None else Path(taken))
    return 0


def recipe_of(call: dict[str, Any]) -> Recipe:
    """The recipe that a study was begun with: a named one, or a user's own network and data."""
    if call.get("model") is None:
        return asked.named_recipe(call["recipe"])
    from epigram.cli import custom

    return custom.recipe(call["model"], call["data"], weights=call.get("weights"))


if __name__ == "__main__":
    sys.exit(guarded(lambda: run(sys.argv[1:])))
