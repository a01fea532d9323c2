"""``epigram unpack``: decode a file into safetensors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from epigram import atomic, codec
from epigram.cli import asked, output
from epigram.cli.inspect import read_capped
from epigram.cli.parser import Parser, add_output_flags
from epigram.errors import ConfigError


def run(argv: Sequence[str]) -> int:
    """Write the tensors of the small network."""
    parser = Parser("unpack", "Decode a file into safetensors: the tensors of the small network.")
    parser.add_argument("file", help="the .epg file")
    parser.add_argument(
        "--out", required=True, metavar="FILE", help="the safetensors file to write"
    )
    parser.add_argument(
        "--recipe", help="whose network names the tensors; needed for files of the bare profile"
    )
    add_output_flags(parser)
    options = parser.parse(argv)
    path, target = output.existing_file(options.file), Path(options.out)
    if not target.parent.is_dir():
        raise ConfigError(f"--out {target}: its folder does not exist")
    contents = codec.decode(read_capped(path), dense_shapes=shapes(path, options.recipe))
    from safetensors.numpy import save

    tensors = {tensor.name: np.ascontiguousarray(tensor.values()) for tensor in contents.tensors}
    held = {"numbers": json.dumps(dict(contents.numbers))} if contents.numbers else {}
    atomic.write_bytes(target, save(tensors, metadata={**contents.metadata, **held} or None))
    found = {name: list(tensor.shape) for name, tensor in tensors.items()}
    if options.json:
        output.print_json(
            {"file": str(target), "tensors": found, "numbers": dict(contents.numbers)}
        )
    else:
        output.print_table(
            [(name, "x".join(map(str, shape))) for name, shape in found.items()],
            header=("tensor", "shape"),
        )
        print(f"{target}: {output.grouped(target.stat().st_size)} bytes")
    return 0


def shapes(path: Path, recipe: str | None) -> dict[str, tuple[int, ...]] | None:
    """Names and shapes of the original's tensors, which a bare file leaves to its reader.

    Raises:
        ConfigError: the file is bare and no recipe says whose network it holds.
    """
    if recipe is not None:
        from epigram import artifact

        return artifact.dense_shapes(asked.named_recipe(recipe).build())
    if codec.inspect(read_capped(path))["profile"] == "bare":
        raise ConfigError(
            f"{path}: a bare file leaves tensor names to the model; say whose with --recipe"
        )
    return None
