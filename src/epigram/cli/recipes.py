"""``epigram recipes``: the named networks and data sets."""

from __future__ import annotations

from collections.abc import Sequence

from epigram.cli import output
from epigram.cli.parser import Parser, add_output_flags


def run(argv: Sequence[str]) -> int:
    """List the recipes."""
    parser = Parser("recipes", "The named networks, data sets and settings.")
    add_output_flags(parser)
    options = parser.parse(argv)
    from epigram import recipes

    found = [recipes.get(name) for name in recipes.names()]
    if options.json:
        output.print_json(
            [{"name": r.name, "description": r.description, "floor": r.floor} for r in found]
        )
    else:
        rows = [(recipe.name, recipe.floor, recipe.description) for recipe in found]
        output.print_table(rows, header=("recipe", "floor", "what it is"))
    return 0
