"""``epigram replay``: re-run the step at which training went wrong, and name the first bad tensor."""

from __future__ import annotations

from collections.abc import Sequence

from epigram.cli import asked, output
from epigram.cli.parser import Parser, add_output_flags


def run(argv: Sequence[str]) -> int:
    """Print what the replay found."""
    parser = Parser(
        "replay", "Re-run the step at which training went wrong, and name the first bad tensor."
    )
    parser.add_argument("bundle", help="a failure-NNNN folder that a failed run left")
    parser.add_argument("--recipe", help="of the run; default: what its config.json says")
    asked.add_own_network(parser)
    add_output_flags(parser)
    options = parser.parse(argv)
    bundle = output.existing_folder(options.bundle)
    if options.recipe is None and options.model is None:
        from epigram.train import read_config

        name = str(read_config(bundle.parent)["config"].get("recipe"))
        if ":" in name:  # a run of a user's own network is named after its two functions
            options.model, _, options.data = name.partition("/")
        else:
            options.recipe = name
    recipe = asked.find_recipe(options)
    from epigram import pipeline

    report = pipeline.replay_bundle(bundle, recipe)
    if options.json:
        output.print_json(
            {
                "bundle": report.bundle,
                "stage": report.stage,
                "epoch": report.epoch,
                "step": report.step,
                "recorded": None if report.recorded is None else str(report.recorded),
                "found": None if report.found is None else str(report.found),
                "reproduced": report.reproduced,
            }
        )
    else:
        print(report)
    return 0
