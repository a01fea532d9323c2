"""What all trials of a search start from: ``--from`` and ``--weights``, known by their content.

A path says nothing of what lies there: another file may lie there tomorrow, and the same file elsewhere. A
study therefore remembers digests, and where the files are is told to each trial anew.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from epigram.cli import output
from epigram.cli.parser import Parser
from epigram.errors import ConfigError

_PLAIN = "plain.safetensors"


def add_flags(parser: Parser) -> None:
    """``--from`` and ``--weights``, for a trial."""
    parser.add_argument("--from", dest="from_folder", metavar="DIR")
    parser.add_argument("--weights", metavar="FILE")


def words(options: argparse.Namespace) -> tuple[str, ...]:
    """The same flags for a trial, whose working directory is another one."""
    told: tuple[str, ...] = ()
    if options.from_folder is not None:
        told += ("--from", str(output.existing_folder(options.from_folder).resolve()))
    if options.weights is not None:
        told += ("--weights", str(output.existing_file(options.weights).resolve()))
    return told


def digests(options: argparse.Namespace) -> dict[str, str]:
    """SHA-256 of what trials start from, as far as they start from anything.

    Raises:
        ConfigError: a file is missing or cannot be read.
    """
    from epigram.search.identity import file_digest

    return {f"{key}_sha256": file_digest(path) for key, path in _files(options).items()}


def check(options: argparse.Namespace, call: dict[str, str]) -> None:
    """Refuse files that are not those the study was begun with.

    Raises:
        ConfigError: one is not, or is missing.
    """
    found = digests(options)
    for key, path in _files(options).items():
        known, now = call.get(f"{key}_sha256"), found[f"{key}_sha256"]
        if known != now:
            raise ConfigError(
                f"{path}: its content has changed since the study was begun: SHA-256 {now}, expected "
                f"{known}. Put the file back, or begin another study"
            )
    missing = [key for key in call if key.endswith("_sha256") and key not in found]
    if missing:
        raise ConfigError(
            f"trial: --{missing[0].removesuffix('_sha256')}: missing; its study was begun with one"
        )


def _files(options: argparse.Namespace) -> dict[str, Path]:
    named: dict[str, Path] = {}
    if options.from_folder is not None:
        folder = output.existing_folder(options.from_folder)
        if not (folder / _PLAIN).is_file():
            raise ConfigError(
                f"--from {folder}: holds no {_PLAIN}; expected the folder of a finished `epigram train`"
            )
        named["from"] = folder / _PLAIN
    if options.weights is not None:
        named["weights"] = output.existing_file(options.weights)
    return named
