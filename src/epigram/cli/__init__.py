"""The command line: one command per file, each imported only when it is called.

A command module has ``run(argv) -> int``. Whatever goes wrong ends here as one line on stderr and an
exit code: 0 done; 2 the call was wrong; 3 the floor could not be met; 4 training failed; 5 storage;
130 interrupted.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from epigram.cli.output import warn
from epigram.cli.parser import nearest
from epigram.errors import ConfigError, EpigramError

COMMANDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "recipes": "the named networks and data sets",
        "train": "train the plain network of a recipe",
        "compress": "find the smallest file that still meets a floor",
        "evaluate": "decode a file and test the network in it",
        "inspect": "what is in a file, byte by byte; needs no torch",
        "pack": "code a checkpoint without training",
        "unpack": "decode a file into safetensors",
        "compare": "the settings in which runs differ, and their curves on one plot",
        "report": "write a run's HTML page, pictures and movies again",
        "search": "the smallest file subject to the floor, in many runs",
        "replay": "re-run the step at which training went wrong",
        "doctor": "versions, devices, data found, disk space",
    }
)

DONE: Final = 0
WRONG_CALL: Final = 2
FLOOR_NOT_MET: Final = 3
STORAGE: Final = 5
INTERRUPTED: Final = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code and never raises for an error that is ours."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return guarded(lambda: _dispatch(arguments))


def guarded(command: Callable[[], int]) -> int:
    """Call ``command`` and turn what it raises into one line on stderr and an exit code.

    ``EPIGRAM_DEBUG=1`` lets errors through with their traceback. An error nobody foresaw is a defect
    of ours and always keeps its traceback.
    """
    if os.environ.get("EPIGRAM_DEBUG"):
        return command()
    try:
        return command()
    except SystemExit as stop:  # argparse has printed help
        return int(stop.code or DONE)
    except KeyboardInterrupt:
        return _refuse(
            "interrupted; the same command goes on from the last checkpoint", INTERRUPTED
        )
    except EpigramError as error:
        bundle = getattr(error, "bundle", None)
        hint = f" (epigram replay {bundle})" if bundle and str(bundle) not in str(error) else ""
        return _refuse(f"{error}{hint}", error.exit_code)
    except BrokenPipeError:
        # Whoever read our output has seen enough (`epigram inspect f.epg | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        return _refuse(
            f"{error.filename}: {error.strerror}" if error.filename else str(error), WRONG_CALL
        )
    except OSError as error:
        if error.errno is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        room = "; make room and run the same command again" if error.errno == errno.ENOSPC else ""
        return _refuse(f"{where}{error.strerror}{room}", STORAGE)


def _refuse(message: str, code: int) -> int:
    warn(message)
    return code


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print(_overview())
        return DONE if arguments else WRONG_CALL
    if arguments[0] in {"-V", "--version"}:
        from epigram import __version__

        print(f"epigram {__version__}")
        return DONE
    name, *rest = arguments
    if name not in COMMANDS:
        hint = nearest(name, list(COMMANDS)) or f"the commands are {', '.join(COMMANDS)}"
        raise ConfigError(f"unknown command '{name}'; {hint}")
    run: Callable[[Sequence[str]], int] = importlib.import_module(f"epigram.cli.{name}").run
    return run(rest)


def _overview() -> str:
    lines = [f"  {name:<10}{summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [
            "usage: epigram <command> [...]",
            "",
            "Trains a PyTorch network until it says it in the fewest bits.",
            "",
            *lines,
            "",
            "epigram <command> --help says more.",
            "Exit codes: 0 done; 2 the call was wrong; 3 the floor could not be met; 4 training failed;",
            "5 a file could not be written; 130 interrupted (the same command goes on).",
        ]
    )
