"""``python -m epigram.cli.trial FOLDER``: one trial of ``epigram search``, in a process of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epigram.cli import asked, guarded, starts
from epigram.cli.parser import Parser
from epigram.errors import ConfigError

if TYPE_CHECKING:
    from epigram.pipeline import Recipe


def run(argv: Sequence[str]) -> int:
    """Run the trial whose folder is named by the argument or by ``EPIGRAM_TRIAL``.

    Raises:
        ConfigError: no folder is named, or a file is not the one that the study was begun with.
        EpigramError: see ``run_trial``.
    """
    options = _parser().parse(argv)
    named = options.folder or os.environ.get("EPIGRAM_TRIAL")
    if named is None:
        raise ConfigError("trial: expected the folder of a trial")
    from epigram.search import trial
    from epigram.train import keep_freed_memory

    keep_freed_memory()
    where = Path(named)
    call = trial.read_trial(where)["task"]["call"]
    starts.check(options, call)
    taken = options.from_folder
    trial.run_trial(
        where,
        recipe_of(call, weights=options.weights),
        from_folder=None if taken is None else Path(taken),
    )
    return 0


def recipe_of(call: dict[str, Any], *, weights: str | None) -> Recipe:
    """The recipe that a study was begun with: a named one, or a user's own network and data."""
    if call.get("model") is None:
        return asked.named_recipe(call["recipe"])
    from epigram.cli import custom

    return custom.recipe(call["model"], call["data"], weights=weights)


def _parser() -> Parser:
    known = Parser("trial", "One trial of a search.")
    known.add_argument("folder", nargs="?", help="default: EPIGRAM_TRIAL")
    starts.add_flags(known)
    return known


if __name__ == "__main__":
    sys.exit(guarded(lambda: run(sys.argv[1:])))
