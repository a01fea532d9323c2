"""The flags of ``epigram search``."""

from __future__ import annotations

import argparse

from epigram.cli import asked
from epigram.cli.parser import Parser, add_output_flags

_EPILOG = """\
What is varied: the settings a file's size depends on most, and the network's widths where it has any
to choose. Others are named with --vary, for example
    --vary 'structure.kl_weight=0.1..3 log' --vary 'finetune.optimizer=adam|sgd' --vary widths.fc1=50..300
Every setting is a flag as well (as for `epigram compress`) and is then the same in all trials.
"""


def parser() -> Parser:
    """The flags of the command."""
    known = Parser(
        "search", "Find the smallest file that meets the floor, in many runs.", epilog=_EPILOG
    )
    known.add_argument("recipe", nargs="?", help="a name that `epigram recipes` lists")
    asked.add_own_network(known).add_argument(
        "--weights", metavar="FILE", help="its trained weights, safetensors"
    )
    known.add_argument(
        "--floor", metavar="RULE", help="e.g. 'accuracy>=0.99'; default: the recipe's"
    )
    known.add_argument("--trials", type=_whole, default=64, metavar="N", help="default: 64")
    known.add_argument(
        "--parallel", type=_whole, default=1, metavar="N", help="trials at a time; default: 1"
    )
    known.add_argument(
        "--executor",
        default="local",
        choices=("local", "ray", "slurm"),
        help="where trials run; default: local. The others need a folder that all machines see",
    )
    known.add_argument("--vary", action="append", metavar="SETTING=RANGE", help="may be repeated")
    known.add_argument(
        "--out", metavar="DIR", help="the study's folder; default: runs/search-<recipe>"
    )
    known.add_argument("--config", metavar="FILE", help="settings of all trials, as YAML or JSON")
    known.add_argument(
        "--from", dest="from_folder", metavar="DIR", help="all start from this `epigram train`"
    )
    known.add_argument("--seed", type=_seed, default=0, metavar="N", help="default: 0")
    known.add_argument(
        "--sampler", default="auto", choices=("auto", "gp", "tpe", "random"), help="default: auto"
    )
    known.add_argument(
        "--stopping", default="off", choices=("off", "forecast", "hyperband"), help="default: off"
    )
    known.add_argument(
        "--margin",
        type=_not_negative,
        metavar="K",
        help="standard errors above the floor from which a trial counts; default: what confirming takes, at least 1",
    )
    known.add_argument(
        "--aim",
        type=_not_negative,
        default=2.0,
        metavar="K",
        help="trials compress to a floor stricter by K standard errors of validation; default: 2",
    )
    known.add_argument(
        "--confirm", type=_seed, default=3, metavar="K", help="designs trained anew; default: 3"
    )
    known.add_argument(
        "--trial-minutes",
        type=asked.positive,
        metavar="M",
        help="a trial's limit; default: 10 times the median of finished trials, from a minute on, "
        "once 3 have finished (none with Slurm, where waiting counts)",
    )
    known.add_argument(
        "--max-minutes", type=asked.positive, metavar="M", help="stop in order after so long"
    )
    known.add_argument(
        "--grace", type=asked.positive, default=20.0, metavar="S", help="seconds to checkpoint in"
    )
    known.add_argument("--allow-code-change", action="store_true", help="go on with other code")
    known.add_argument("--dry-run", action="store_true", help="say what would be done; do nothing")
    add_output_flags(known, quiet=True)
    return known


def _not_negative(text: str) -> float:
    return 0.0 if text.strip() in {"0", "0.0"} else asked.positive(text)


def _whole(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number from 1 on")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number from 0 on")
    return int(text)
