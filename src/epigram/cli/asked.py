"""What ``train`` and ``compress`` were asked for: the recipe, its settings, the folder."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from epigram.cli import flags
from epigram.cli.parser import Parser, add_output_flags, nearest
from epigram.errors import ConfigError

if TYPE_CHECKING:
    from epigram.pipeline import CompressSettings, Recipe

SETTINGS_EPILOG = """\
Every setting is a flag as well, and a line of the file given with --config; flags win. All of them,
with a recipe's values:      epigram {command} lenet-300-100/mnist --help
The same as a file to edit:  epigram {command} lenet-300-100/mnist --print-config > run.yaml
"""


@dataclass(frozen=True)
class Asked:
    """One call of ``train`` or ``compress``, checked as far as it can be before time is spent."""

    recipe: Recipe
    settings: CompressSettings
    folder: Path
    options: argparse.Namespace

    @property
    def progress(self) -> Literal["auto"] | None:
        """How to show progress (on stderr, so that JSON on stdout stays whole)."""
        return None if self.options.quiet else "auto"


def training_parser(command: str, description: str) -> Parser:
    """The flags that ``train`` and ``compress`` share."""
    parser = Parser(command, description, epilog=SETTINGS_EPILOG.format(command=command))
    parser.add_argument("recipe", nargs="?", help="a name that `epigram recipes` lists")
    add_own_network(parser).add_argument(
        "--weights", metavar="FILE", help="its trained weights, safetensors"
    )
    parser.add_argument("--out", metavar="DIR", help="the run's folder; default: runs/<recipe>")
    parser.add_argument("--config", metavar="FILE", help="settings, as YAML or JSON")
    parser.add_argument("--print-config", action="store_true", help="print all settings and stop")
    parser.add_argument("--seed", metavar="N", help="seed of everything random; default: 0")
    parser.add_argument(
        "--max-minutes", type=positive, metavar="M", help="stop in order after so long; resumable"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be done and for how long; do nothing"
    )
    add_output_flags(parser, quiet=True)
    return parser


def add_own_network(parser: Parser) -> argparse._ArgumentGroup:
    """``--model`` and ``--data``."""
    own = parser.add_argument_group("your own network instead of a recipe")
    own.add_argument("--model", metavar="PKG.MOD:FUNC", help="function that returns the nn.Module")
    own.add_argument("--data", metavar="PKG.MOD:FUNC", help="function that returns the data sets")
    return own


def positive(text: str) -> float:
    """A number above 0, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number above 0")
    return value


def read(parser: Parser, argv: Sequence[str]) -> Asked | str:
    """The call, or the text to print instead (help, or the settings as a file).

    Raises:
        ConfigError: the call is wrong.
    """
    known, overrides = flags.split_settings(parser, argv)
    wants_help = any(token in {"-h", "--help"} for token in known)
    options = parser.parse([token for token in known if token not in {"-h", "--help"}])
    if wants_help and options.recipe is None and options.model is None:
        return parser.format_help()
    if options.seed is not None:
        overrides["seed"] = options.seed
    recipe = find_recipe(options)
    settings = flags.apply_settings(parser, recipe.settings, overrides, file=options.config)
    if wants_help:
        return f"{parser.format_help()}\nsettings of {recipe.name}:\n{flags.describe(settings)}\n"
    if options.print_config:
        return flags.as_yaml(settings)
    folder = Path(options.out or Path("runs") / re.sub(r"[^A-Za-z0-9.-]+", "-", recipe.name))
    return Asked(recipe, settings, folder, options)


def find_recipe(options: argparse.Namespace) -> Recipe:
    """The recipe of that name, or the one made of ``--model`` and ``--data``.

    Raises:
        ConfigError: neither or both are given, or there is no such recipe.
    """
    if options.model is not None:
        if options.recipe is not None:
            raise ConfigError(f"got both a recipe ({options.recipe}) and --model; expected one")
        if options.data is None:
            raise ConfigError("--model: needs --data, the function that returns the data sets")
        from epigram.cli import custom

        return custom.recipe(options.model, options.data, weights=_given(options, "weights"))
    if options.recipe is None:
        raise ConfigError("expected a recipe (`epigram recipes` lists them), or --model and --data")
    for flag in ("data", "weights"):
        if _given(options, flag) is not None:
            raise ConfigError(f"--{flag}: goes with --model, not with a recipe")
    return named_recipe(options.recipe)


def _given(options: argparse.Namespace, flag: str) -> str | None:
    value: str | None = getattr(options, flag, None)
    return value


def named_recipe(name: str) -> Recipe:
    """The recipe called ``name``.

    Raises:
        ConfigError: there is none; the nearest name is suggested.
    """
    from epigram import recipes

    names = recipes.names()
    if name not in names:
        hint = nearest(name, names) or f"the recipes are {', '.join(names)}"
        raise ConfigError(f"unknown recipe '{name}'; {hint}")
    return recipes.get(name)
