"""``epigram pack``: a checkpoint to a file, without training."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from epigram import atomic
from epigram.cli import asked, output
from epigram.cli.parser import Parser, add_output_flags
from epigram.errors import ConfigError

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
    target.add_argument("--bytes", type=int, metavar="N", help="the best file of at most N bytes")
    target.add_argument(
        "--max-error",
        type=asked.positive,
        metavar="X",
        help="relative error of all weights, at most",
    )
    target.add_argument("--floor", metavar="METRIC>=X", help="held on the control split")
    parser.add_argument(
        "--calibration",
        type=int,
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
        if not packed.met:
            print("the target could not be met; this is the nearest file")
    return 0 if packed.met else 3


def _pack(options: argparse.Namespace, path: Path) -> tuple[Packed, dict[str, float]]:
    from epigram.pipeline import calibration, checkpoints, packing

    state = checkpoints.read_checkpoint(path)
    if options.floor is None and options.calibration is None:
        if options.recipe is not None or options.model is not None:
            raise ConfigError("--recipe and --model go with --floor or --calibration")
        size, error = options.bytes, options.max_error
        error = _ERROR if size is None and error is None else error
        return packing.pack(state, size_bytes=size, max_error=error), {}
    recipe = asked.find_recipe(options)
    return calibration.pack_with_data(
        state,
        recipe,
        floor=options.floor,
        size_bytes=options.bytes,
        max_error=options.max_error,
        calibration=options.calibration or 0,
    )
