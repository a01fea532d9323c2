"""``epigram replay``: re-run the step at which training went wrong, and name the first bad tensor."""

from __future__ import annotations

from collections.abc import Sequence

from epigram.cli import output
from epigram.cli.parser import Parser, add_output_flags


def run(argv: Sequence[str]) -> int:
    """Print what the replay found."""
    parser = Parser(
        "replay", "Re-run the step at which training went wrong, and name the first bad tensor."
    )
    parser.add_argument("bundle", help="a failure-NNNN folder that a failed run left")
    add_output_flags(parser)
    options = parser.parse(argv)
    bundle = output.existing_folder(options.bundle)
    from epigram import pipeline

    report = pipeline.replay_bundle(bundle)
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
