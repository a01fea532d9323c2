"""``epigram compress``: the smallest file that still meets the floor."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from epigram.cli import FLOOR_NOT_MET, asked, output, plan
from epigram.cli.parser import Parser
from epigram.errors import ConfigError
from epigram.goal import Goal, parse_bytes


def run(argv: Sequence[str]) -> int:
    """Compress; print what was asked and what was reached; 3 if the floor could not be met."""
    call = asked.read(parser(), argv)
    if isinstance(call, str):
        print(call, end="")
        return 0
    options = call.options
    budget = None if options.budget is None else parse_bytes(options.budget)
    relative = budget is not None or options.max_drop is not None
    asked_for = options.floor or call.recipe.floor or ("" if relative else _missing_goal())
    goal = Goal.of(
        asked_for,
        budget,
        options.max_drop,
        metric=options.metric,
        named=options.floor is not None,
    )
    from_folder = None if options.from_folder is None else Path(options.from_folder)
    if from_folder is not None and not from_folder.is_dir():
        raise ConfigError(f"--from {from_folder}: no such folder; expected a finished run")
    if options.dry_run:
        return plan.show(call, goal=goal, skip=() if from_folder is None else ("plain",))
    from epigram import pipeline
    from epigram.train import keep_freed_memory

    keep_freed_memory()
    result = pipeline.compress_recipe(
        call.recipe,
        call.settings,
        call.folder,
        floor=None if relative else str(goal.floor),
        budget=budget,
        max_drop=options.max_drop,
        metric=options.metric,
        from_folder=from_folder,
        force=options.force,
        progress=call.progress,
        max_minutes=options.max_minutes,
        keep_posterior=options.keep_posterior,
    )
    if options.json:
        output.print_json(result)
    else:
        output.print_result(result)
        print(output.where_it_lies(call.folder))
    if result["floor"]["met"]:
        return 0
    output.warn(
        f"{goal} could not be met: {result['floor']['reason']}. The nearest file is written all the "
        f"same: {result['file_bytes']} bytes"
    )
    return FLOOR_NOT_MET


def parser() -> Parser:
    """The flags of the command."""
    flags = asked.training_parser(
        "compress",
        "Find the smallest file that still meets the floor, and prove it by decoding it.",
    )
    flags.add_argument(
        "--floor", metavar="RULE", help="for example 'accuracy>=0.982'; default: the recipe's"
    )
    flags.add_argument(
        "--max-drop",
        type=_drop,
        metavar="D",
        help="instead: how much worse than the plain network, on validation; for example 0.005",
    )
    flags.add_argument(
        "--budget", metavar="SIZE", help="instead: the best in so many bytes; for example 1kB"
    )
    flags.add_argument(
        "--metric",
        metavar="NAME",
        help="of --max-drop and --budget, for example nll; default: that of the recipe's floor, or accuracy",
    )
    flags.add_argument(
        "--from",
        dest="from_folder",
        metavar="DIR",
        help="start from this run's plain network (and structure pass, where it would be the same)",
    )
    flags.add_argument(
        "--force", action="store_true", help="go on if the plain network misses the floor"
    )
    flags.add_argument(
        "--keep-posterior", action="store_true", help="save q(w) too, for uncertainty later"
    )
    return flags


def _missing_goal() -> str:
    raise ConfigError(
        "--floor: missing; expected for example --floor 'accuracy>=0.93', --max-drop 0.005 or "
        "--budget 1kB"
    )


def _drop(text: str) -> float:
    """A number that is not negative, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number >= 0")
    return value
