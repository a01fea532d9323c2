"""A call of ``epigram search``: its words read into what is searched, and checked before time is spent."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from epigram.cli import asked, flags
from epigram.cli.parser import Parser
from epigram.errors import ConfigError
from epigram.records import Floor

if TYPE_CHECKING:
    from epigram.pipeline import CompressSettings, Recipe
    from epigram.search import Space


@dataclass(frozen=True)
class Search:
    """One call, checked as far as it can be before time is spent."""

    recipe: Recipe
    settings: CompressSettings
    space: Space
    floor: Floor
    folder: Path
    options: argparse.Namespace


def read(flags_known: Parser, argv: Sequence[str]) -> Search | str:
    """The call, or the help text.

    Raises:
        ConfigError: the call is wrong.
    """
    known, overrides = flags.split_settings(flags_known, argv)
    wants_help = any(token in {"-h", "--help"} for token in known)
    options = flags_known.parse([token for token in known if token not in {"-h", "--help"}])
    if wants_help:
        return flags_known.format_help()
    from epigram import recipes
    from epigram.search.common import Common

    recipe = asked.find_recipe(options)
    settings = flags.apply_settings(flags_known, recipe.settings, overrides, file=options.config)
    settings = replace(settings, page=False)
    floor = Floor.parse(options.floor or recipe.floor or _missing_floor())
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", recipe.name)
    folder = Path(options.out or Path("runs") / f"search-{name}")
    space = _space(options, recipe, overrides)
    Common(settings, widths=recipes.widths(recipe)).check(space)
    return Search(recipe, settings, space, floor, folder, options)


def _space(options: argparse.Namespace, recipe: Recipe, fixed: dict[str, str]) -> Space:
    """What is varied: what ``--vary`` names, else the preset without what a flag has fixed."""
    from epigram import recipes
    from epigram.search import Space, dimensions, preset
    from epigram.search.space import WIDTHS

    widths = recipes.widths(recipe)
    if options.from_folder is not None:
        widths = {}  # the plain network that is taken has its own
    if not options.vary:
        whole = preset(widths).dimensions
        return Space({name: d for name, d in whole.items() if name not in fixed})
    named = {}
    for text in options.vary:
        name, equals, values = text.partition("=")
        if not equals:
            raise ConfigError(f"--vary: got {text!r}, expected SETTING=RANGE, such as lr=0.1..3")
        name = name.strip()
        if name in named or name in fixed:
            twice = "named twice" if name in named else f"fixed by the flag --{name} as well"
            raise ConfigError(f"--vary {name}: {twice}; expected one or the other")
        if options.from_folder is not None and name.startswith(f"{WIDTHS}."):
            raise ConfigError(f"--vary {name}: the network that --from names has its own widths")
        named[name] = dimensions.parse(values, where=f"--vary {name}")
    return Space(named)


def _missing_floor() -> str:
    raise ConfigError("--floor: missing; expected for example --floor 'accuracy>=0.93'")
