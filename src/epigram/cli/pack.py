"""``epigram pack``: a checkpoint to a file, without training."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from epigram import atomic
from epigram.cli import FLOOR_NOT_MET, asked, output
from epigram.cli.parser import Parser, add_output_flags
from epigram.errors import ConfigError
from epigram.goal import parse_bytes

if TYPE_CHECKING:
    from epigram.pipeline.packing import Packed

_ERROR = 0.05


def run(argv: Sequence[str]) -> int:
    """Quantise and code the tensors of a checkpoint."""
    parser = Parser(
        "pack",
        "Post-training coding of any checkpoint; `epigram unpack` gives it back.",
        epilog=f"Without a target: --max-error {_ERROR}. A floor and --calibration need the network and "
        "its data: --recipe, or --model and --data.",
    )
    parser.add_argument(
        "checkpoint", help=".safetensors, or a .pt state dict (no code in it is run)"
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="the .epg file to write")
    target = parser.add_mutually_exclusive_group()
    target.add_argument(
        "--bytes",
        type=_size,
        metavar="SIZE",
        help="the best file of at most so much; for example 20kB",
    )
    target.add_argument(
        "--max-error",
        type=asked.positive,
        metavar="X",
        help="relative error of all weights, at most",
    )
    target.add_argument(
        "--floor",
        metavar="METRIC>=X",
        help="the smallest file that holds it; control steers, validation judges",
    )
    parser.add_argument(
        "--calibration",
        type=_count,
        metavar="N",
        help="weigh errors by the Fisher information of N examples",
    )
    parser.add_argument("--recipe", help="whose network and data; for example lenet-5/mnist")
    asked.add_own_network(parser)
    add_output_flags(parser)
    options = parser.parse(argv)
    path, out = output.existing_file(options.checkpoint), Path(options.out)
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: its folder does not exist")
    start = time.perf_counter()
    packed, figures = _pack(options, path)
    atomic.write_bytes(out, packed.data)
    from epigram.pipeline.packing import dense_bytes_of

    dense = dense_bytes_of(packed.contents)
    found = {
        "file": str(out),
        "file_bytes": len(packed.data),
        "dense_bytes": dense,
        "ratio": round(dense / len(packed.data), 3),
        "relative_error": packed.relative_error,
        "step": packed.step,
        "met": packed.met,
        "reason": packed.reason,
        "seconds": round(time.perf_counter() - start, 3),
        **figures,
    }
    if options.json:
        output.print_json(found)
    else:
        print(
            f"{out}: {output.grouped(len(packed.data))} bytes, {found['ratio']:.1f} times smaller; "
            f"relative error of the weights {packed.relative_error:.4f}; {found['seconds']:.1f} s"
        )
    if packed.met:
        return 0
    output.warn(
        f"{_target(options)} could not be met: {packed.reason}. The nearest file is written all the same: "
        f"{len(packed.data)} bytes"
    )
    return FLOOR_NOT_MET


def _pack(options: argparse.Namespace, path: Path) -> tuple[Packed, dict[str, float]]:
    from epigram.pipeline import calibration, checkpoints, packing

    state = checkpoints.read_checkpoint(path)
    size, error = options.bytes, options.max_error
    if size is None and error is None and options.floor is None:
        error = _ERROR
    if options.floor is None and options.calibration is None:
        if options.recipe is not None or options.model is not None:
            raise ConfigError("--recipe and --model go with --floor or --calibration")
        return packing.pack(state, size_bytes=size, max_error=error), {}
    return calibration.pack_with_data(
        state,
        asked.find_recipe(options),
        floor=options.floor,
        size_bytes=size,
        max_error=error,
        calibration=options.calibration or 0,
    )


def _target(options: argparse.Namespace) -> str:
    """What was asked, in a word or two."""
    if options.floor is not None:
        return str(options.floor)
    if options.bytes is not None:
        return f"{options.bytes} bytes"
    return f"a relative error of {options.max_error or _ERROR:g}"


def _size(text: str) -> int:
    """A size in bytes, for argparse."""
    try:
        return parse_bytes(text)
    except ConfigError:
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected a size such as 900, 1kB or 2.5KiB"
        ) from None


def _count(text: str) -> int:
    """A whole number above 0, for argparse."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number above 0")
    return value
