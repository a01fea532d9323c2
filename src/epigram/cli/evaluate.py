"""``epigram evaluate``: decode a file and test the network in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from epigram.cli import asked, output
from epigram.cli.parser import Parser, add_output_flags
from epigram.errors import ConfigError


def run(argv: Sequence[str]) -> int:
    """Print bytes, test error and ratio of an ``.epg`` file."""
    parser = Parser("evaluate", "Decode a file and test the network in it on the full test set.")
    parser.add_argument("file", help="the .epg file")
    parser.add_argument("--recipe", help="whose network and test set; for example lenet-5/mnist")
    parser.add_argument(
        "--widths",
        metavar="LAYER=N,...",
        help="of the recipe's network; default: those a search noted beside its winner",
    )
    asked.add_own_network(parser)
    add_output_flags(parser)
    options = parser.parse(argv)
    path = output.existing_file(options.file)
    recipe = asked.find_recipe(options)
    from epigram import pipeline

    widths = noted_widths(path) if options.widths is None else parse_widths(options.widths)
    if widths:
        from epigram.recipes import with_widths

        recipe = with_widths(recipe, widths)
    result = pipeline.evaluate_file(path, recipe)
    if options.json:
        output.print_json(result)
        return 0
    print(f"{path}: {output.grouped(int(result['file_bytes']))} bytes")
    print(f"test error {result['test_error_percent']:.2f} %")
    if result.get("ratio") is not None:
        print(f"{result['ratio']:.1f} times smaller than the original's fp32 parameters")
    return 0


def noted_widths(path: Path) -> dict[str, int]:
    """What ``result.json`` beside a search's winner says of the network's widths; empty where nothing does."""
    try:
        told: Any = json.loads((path.parent / "result.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    widths = told.get("widths") if isinstance(told, dict) else None
    return dict(widths) if isinstance(widths, dict) else {}


def parse_widths(text: str) -> dict[str, int]:
    """``fc1=200,fc2=80`` as layer -> units.

    Raises:
        ConfigError: it is something else.
    """
    found = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        if not name.strip() or not number.strip().isdecimal():
            raise ConfigError(f"--widths: got {text!r}, expected for example fc1=200,fc2=80")
        found[name.strip()] = int(number)
    return found
