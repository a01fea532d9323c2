"""``epigram inspect``: what is in a file, byte by byte. torch is never imported."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from epigram import codec
from epigram.cli import output
from epigram.cli.output import printable
from epigram.cli.parser import Parser, add_output_flags


def run(argv: Sequence[str]) -> int:
    """Print the parts of an ``.epg`` file and what it says of itself."""
    parser = Parser("inspect", "What is in a file, byte by byte; the checksum is verified.")
    parser.add_argument("file", help="the .epg file")
    add_output_flags(parser)
    options = parser.parse(argv)
    path = output.existing_file(options.file)
    found = codec.inspect(read_capped(path))
    recorded = recorded_breakdown(path, found["file_bytes"])
    if options.json:
        extra = {} if recorded is None else {"recorded_breakdown": recorded}
        output.print_json({"file": str(path), **found, **extra})
    else:
        _print(path, found, recorded)
    return 0


def read_capped(path: Path) -> bytes:
    """The file's bytes; one that is longer than the codec's cap is refused before it is read.

    Raises:
        FormatError: the file is longer than the cap.
    """
    limits = codec.Limits()
    limits.check(f"{path}: bytes", path.stat().st_size, "max_file_bytes")
    return path.read_bytes()


def recorded_breakdown(path: Path, file_bytes: int) -> dict[str, int] | None:
    """Bytes by part as the run that wrote the file recorded them, or None.

    A bare file leaves tensor names to the original class, so it cannot tell its tensors' bytes apart
    by itself; the ``result.json`` beside it can.
    """
    for beside in (path.with_suffix(".json"), path.with_name("result.json")):
        try:
            result = json.loads(beside.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(result, dict) and result.get("file_bytes") == file_bytes:
            parts = result.get("breakdown")
            if isinstance(parts, dict):
                return dict(leaves(parts))
    return None


def leaves(parts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, int]]:
    """``symbols/fc1.weight`` -> bytes, from parts nested or not."""
    found = []
    for name, part in parts.items():
        if isinstance(part, Mapping):
            found += leaves(part, f"{prefix}{name}/")
        elif isinstance(part, int) and name != "total":
            found.append((prefix + name, part))
    return found


def _print(path: Path, found: Mapping[str, Any], recorded: Mapping[str, int] | None) -> None:
    size = found["file_bytes"]
    print(
        f"{path}: {output.grouped(size)} bytes, format {found['format_version']}, "
        f"profile {found['profile']}, checksum {found['checksum']}"
    )
    parts = recorded or found["breakdown"]
    print()
    rows = [
        (printable(part), part_bytes, f"{100 * part_bytes / size:.1f} %")
        for part, part_bytes in parts.items()
    ]
    output.print_table([*rows, ("all", size, "100.0 %")], header=("part", "bytes", "share"))
    if recorded is not None:
        print("(by part as recorded beside the file: a bare file leaves tensor names to the model)")
    print()
    output.print_table(
        [_tensor(at, tensor) for at, tensor in enumerate(found["tensors"])],
        header=("tensor", "stored as", "shape", "original", "not zero", "step"),
    )
    if found.get("units"):
        print()
        rows = [
            (printable(name), units["kept"], units["dense"])
            for name, units in found["units"].items()
        ]
        output.print_table(rows, header=("group", "units kept", "of"))
    if found.get("numbers"):
        print()
        numbers = [(printable(name), number) for name, number in found["numbers"].items()]
        output.print_table(numbers, header=("number of a module", "is"))
    for key, value in found.get("metadata", {}).items():
        print(f"{printable(key)}: {printable(value)}")


def _tensor(at: int, tensor: Mapping[str, Any]) -> tuple[object, ...]:
    coded = "coefficients" if tensor.get("cosine") else "symbols"
    stored = coded if tensor["kind"] == "coded" else str(tensor.get("dtype", "raw"))
    return (
        printable(tensor.get("name", f"#{at}")),
        stored,
        _shape(tensor.get("shape")),
        _shape(tensor.get("dense_shape")),
        tensor.get("nonzero", ""),
        f"{tensor['step_size']:g}" if "step_size" in tensor else "",
    )


def _shape(shape: Sequence[int] | None) -> str:
    return "" if shape is None else "x".join(map(str, shape)) or "scalar"
