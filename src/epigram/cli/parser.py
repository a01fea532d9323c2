"""Reading a command's arguments: argparse, with errors of one line that suggest what was meant."""

from __future__ import annotations

import argparse
import difflib
import shutil
from collections.abc import Sequence
from typing import NoReturn

from epigram.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """An argument parser that raises instead of exiting, and knows near misses."""

    def __init__(self, command: str, description: str, *, epilog: str | None = None) -> None:
        super().__init__(
            prog=f"epigram {command}",
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=_Formatter,
        )

    def error(self, message: str) -> NoReturn:
        """Raise what argparse found wrong.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"{self.prog.removeprefix('epigram ')}: {message}")

    def flags(self) -> list[str]:
        """Every long flag there is."""
        return [flag for flag in self._option_string_actions if flag.startswith("--")]

    def takes_value(self, flag: str) -> bool:
        """Does ``flag`` stand before a value?"""
        action = self._option_string_actions.get(flag)
        return action is not None and action.nargs != 0

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Read ``argv``.

        Raises:
            ConfigError: a flag or a value is wrong; an unknown flag is answered with the nearest one.
        """
        for token in argv:
            flag = token.partition("=")[0]
            if token == "--":
                break
            if flag.startswith("--") and flag not in self.flags():
                raise self.unknown(flag)
        return self.parse_args(list(argv))

    def unknown(self, flag: str, more: Sequence[str] = ()) -> ConfigError:
        """The answer to a flag nobody knows; ``more`` are flags the parser does not list itself."""
        hint = nearest(flag, [*self.flags(), *more]) or f"{self.prog} --help lists the flags"
        return ConfigError(f"unknown flag '{flag}'; {hint}")


def nearest(word: str, known: Sequence[str]) -> str | None:
    """``did you mean 'x'?`` for the known word nearest to ``word``, or None if none is near."""
    bare = {name.lstrip("-"): name for name in known}  # two dashes are no resemblance
    near = difflib.get_close_matches(word.lstrip("-"), bare, n=1, cutoff=0.6)
    return f"did you mean '{bare[near[0]]}'?" if near else None


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        width = min(100, shutil.get_terminal_size((100, 24)).columns)
        super().__init__(prog, max_help_position=30, width=width)


def add_output_flags(parser: argparse.ArgumentParser, *, quiet: bool = False) -> None:
    """``--json``, and ``--quiet`` where a command would otherwise report progress."""
    parser.add_argument(
        "--json", action="store_true", help="print the result as JSON, nothing else"
    )
    if quiet:
        parser.add_argument("--quiet", action="store_true", help="no progress display")
