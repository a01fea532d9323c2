"""``epigram compare``: the settings in which runs differ, and their curves on one plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from epigram.cli import output
from epigram.cli.parser import Parser, add_output_flags


def run(argv: Sequence[str]) -> int:
    """Print every setting in which the runs differ; write a page with their curves."""
    parser = Parser("compare", "The settings in which runs differ, and their curves on one plot.")
    parser.add_argument("folders", nargs="+", metavar="folder", help="two or more runs")
    parser.add_argument("--out", default="runs/compare", metavar="DIR", help="default: %(default)s")
    add_output_flags(parser)
    options = parser.parse(argv)
    folders = [output.existing_folder(folder) for folder in options.folders]
    from epigram import report

    found = report.compare(folders, Path(options.out))
    if options.json:
        named = {
            difference.setting: dict(zip(options.folders, difference.values, strict=True))
            for difference in found.differences
        }
        output.print_json({"differences": named, "page": found.html, "plot": found.plot})
        return 0
    if found.differences:
        output.print_table(
            [(difference.setting, *difference.values) for difference in found.differences],
            header=("setting", *options.folders),
        )
    else:
        print("the runs have the same settings")
    print(f"curves: {found.html}")
    return 0
