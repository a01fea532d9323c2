"""``epigram compare``: the settings in which runs differ, and their curves on one plot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from epigram import config
from epigram.cli import output
from epigram.cli.parser import Parser, add_output_flags
from epigram.errors import ConfigError, DataError


def run(argv: Sequence[str]) -> int:
    """Print every setting in which the runs differ; write a page with their curves."""
    parser = Parser("compare", "The settings in which runs differ, and their curves on one plot.")
    parser.add_argument("folders", nargs="+", metavar="folder", help="two or more runs")
    parser.add_argument("--out", default="runs/compare", metavar="DIR", help="default: %(default)s")
    add_output_flags(parser)
    options = parser.parse(argv)
    folders = [Path(output.existing_folder(folder)) for folder in options.folders]
    if len(folders) < 2:
        raise ConfigError(f"compare: got one folder ({folders[0]}), expected two or more")
    rows = differing([read_config(folder) for folder in folders])
    from epigram import report

    page = report.compare(folders, Path(options.out))
    if options.json:
        named = {
            key: dict(zip(map(str, folders), values, strict=True)) for key, values in rows.items()
        }
        output.print_json({"differences": named, "page": str(page)})
        return 0
    if rows:
        output.print_table(
            [(key, *map(str, values)) for key, values in rows.items()],
            header=("setting", *map(str, folders)),
        )
    else:
        print("the runs have the same settings")
    print(f"curves: {page}")
    return 0


def differing(configs: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """Key -> its value in each run, for every key on which not all runs agree."""
    first = configs[0]
    pairs = [config.differences(first, other) for other in configs]
    keys = sorted({key for pair in pairs for key in pair})
    values: dict[str, tuple[Any, ...]] = {}
    for key in keys:
        of_first = next(pair[key][0] for pair in pairs if key in pair)
        values[key] = tuple(pair[key][1] if key in pair else of_first for pair in pairs)
    return values


def read_config(folder: Path) -> dict[str, Any]:
    """The ``config.json`` of a run.

    Raises:
        ConfigError: there is none.
        DataError: it is damaged.
    """
    path = folder / "config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{folder}: has no config.json; expected a run's folder") from None
    except ValueError as error:
        raise DataError(f"{path}: damaged: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: damaged: expected an object, got {type(content).__name__}")
    return content
