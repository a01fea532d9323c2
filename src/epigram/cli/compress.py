"""``epigram compress``: the smallest file that still meets the floor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from epigram.cli import FLOOR_NOT_MET, asked, output, plan
from epigram.cli.parser import Parser
from epigram.errors import ConfigError
from epigram.records import Floor


def run(argv: Sequence[str]) -> int:
    """Compress; print what was asked and what was reached; 3 if the floor could not be met."""
    call = asked.read(parser(), argv)
    if isinstance(call, str):
        print(call, end="")
        return 0
    options = call.options
    floor = Floor.parse(options.floor or call.recipe.floor or _missing_floor())
    from_folder = None if options.from_folder is None else Path(options.from_folder)
    if from_folder is not None and not from_folder.is_dir():
        raise ConfigError(
            f"--from {from_folder}: no such folder; expected a run of `epigram train`"
        )
    if options.dry_run:
        return plan.show(call, floor=floor, skip=() if from_folder is None else ("plain",))
    from epigram import pipeline
    from epigram.train import keep_freed_memory

    keep_freed_memory()
    result = pipeline.compress_recipe(
        call.recipe,
        call.settings,
        call.folder,
        floor=str(floor),
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
        f"the floor {floor} could not be met: validation reached "
        f"{result['floor']['validation_value']:g}; the best file is still written"
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
        "--from", dest="from_folder", metavar="DIR", help="start from this run of `epigram train`"
    )
    flags.add_argument(
        "--force", action="store_true", help="go on if the plain network misses the floor"
    )
    flags.add_argument(
        "--keep-posterior", action="store_true", help="save q(w) too, for uncertainty later"
    )
    return flags


def _missing_floor() -> str:
    raise ConfigError("--floor: missing; expected for example --floor 'accuracy>=0.93'")
