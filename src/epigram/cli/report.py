"""``epigram report``: a run's page, pictures and movies, written again from what the run left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from epigram.cli import output
from epigram.cli.parser import Parser, add_output_flags


def run(argv: Sequence[str]) -> int:
    """Write ``report/`` of each folder."""
    parser = Parser("report", "Write the HTML page of runs, and the pictures and movies behind it.")
    parser.add_argument("folders", nargs="+", metavar="folder", help="a run's folder")
    add_output_flags(parser)
    options = parser.parse(argv)
    from epigram import report

    pages = [report.build(Path(output.existing_folder(folder))) for folder in options.folders]
    if options.json:
        output.print_json([str(page) for page in pages])
    else:
        for page in pages:
            print(page)
    return 0
