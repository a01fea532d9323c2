"""``epigram report``: a run's page, pictures and movies, or a search's, written again from what it left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from epigram.cli import output
from epigram.cli.parser import Parser, add_output_flags


def run(argv: Sequence[str]) -> int:
    """Write ``report/`` of each folder, or what Optuna reads of it."""
    parser = Parser("report", "Write the HTML page of runs, and the pictures and movies behind it.")
    parser.add_argument(
        "folders",
        nargs="+",
        metavar="folder",
        help="a run's folder, or a search's, going on or not",
    )
    parser.add_argument(
        "--optuna",
        action="store_true",
        help="the folders are of searches: write export/optuna.db for optuna-dashboard instead of the page",
    )
    add_output_flags(parser)
    options = parser.parse(argv)
    folders = [Path(output.existing_folder(folder)) for folder in options.folders]
    pages = [_exported(folder) if options.optuna else _page(folder) for folder in folders]
    if options.json:
        output.print_json([str(page) for page in pages])
    else:
        for page in pages:
            print(page)
    return 0


def _page(folder: Path) -> Path | str:
    if (folder / "study.json").is_file():
        from epigram.search import report as search_report

        return search_report.build(folder)
    from epigram import report

    return report.build(folder)


def _exported(folder: Path) -> Path | str:
    from epigram.search import export

    return export.to_optuna(folder)
