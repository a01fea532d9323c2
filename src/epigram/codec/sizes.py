"""Where the bytes go: predicted before encoding, and counted in a file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from epigram.codec.container import CHECKSUM_BYTES, Profile, wrap
from epigram.codec.files import read, write
from epigram.codec.limits import Limits
from epigram.codec.shapes import Shape
from epigram.codec.writer import Writer
from epigram.records import FileContents


@dataclass(frozen=True, kw_only=True)
class Breakdown:
    """Bytes of a file by part; ``total`` is their sum and the file's size.

    The stream is not aligned to bytes: a part's bytes are where it ends, rounded, less where it starts.

    Args:
        header: magic, version, profile and length.
        structure: counts, kinds, presence or fingerprint, dense shapes (named), small shapes, edits.
        names: tensor and group names, metadata (named).
        scales: steps, dtypes, models and their parameters.
        live: masks of dead positions.
        symbols: per tensor of two or more axes.
        biases: per tensor of one axis (biases, normalisation).
        raw: per tensor that is stored as it is.
        checksum: the CRC-32.
    """

    header: int
    structure: int
    names: int
    scales: int
    live: int
    symbols: Mapping[str, int] = field(default_factory=dict)
    biases: Mapping[str, int] = field(default_factory=dict)
    raw: Mapping[str, int] = field(default_factory=dict)
    checksum: int = CHECKSUM_BYTES

    @property
    def total(self) -> int:
        """Bytes of the whole file."""
        return sum(self.flat().values())

    @property
    def before_tables(self) -> int:
        """Magic to structure: what DESIGN calls the header."""
        return self.header + self.structure + self.names

    def flat(self) -> dict[str, int]:
        """Part -> bytes, in the order of the file; tensors as ``symbols/name``, ``biases/name`` ..."""
        out = {
            "header": self.header,
            "structure": self.structure,
            "names": self.names,
            "scales": self.scales,
            "live": self.live,
        }
        for kind, parts in (("symbols", self.symbols), ("biases", self.biases), ("raw", self.raw)):
            out |= {f"{kind}/{name}": size for name, size in parts.items()}
        return out | {"checksum": self.checksum}


def size_estimate(
    contents: FileContents,
    profile: Profile = "bare",
    *,
    state_names: Sequence[str] | None = None,
    quick: bool = False,
) -> Breakdown:
    """The size of the file before it is encoded: ideal code length and side information.

    Args:
        contents: what the file would say.
        profile: *bare* or *named*.
        state_names: as ``encode`` is given them; without, nothing is counted for tensors that are left out.
        quick: without trying mixed contexts, which small files are written with: milliseconds, and
            some per cent too much there.

    Raises:
        ConfigError: ``contents`` cannot be written.
    """
    writer = _dry(contents, profile, state_names, quick=quick)
    length = math.ceil(writer.total_bits / 8)
    header = len(wrap(bytes(length), profile)) - length - CHECKSUM_BYTES
    return _breakdown(writer.bits, header, length)


def stream_bits(contents: FileContents, profile: Profile = "bare") -> float:
    """The same in bits and fractions, without the outside of the file: finer than bytes, to compare by.

    Raises:
        ConfigError: ``contents`` cannot be written.
    """
    return _dry(contents, profile, None).total_bits


def breakdown(
    data: bytes,
    *,
    dense_shapes: Mapping[str, Shape] | None = None,
    limits: Limits = Limits(),  # noqa: B008  (frozen)
) -> Breakdown:
    """The bytes of a file by part; their sum is ``len(data)``.

    Raises:
        FormatError: as ``decode``.
    """
    envelope, reader, _ = read(data, dense_shapes, limits)
    return _breakdown(reader.bits, envelope.header_bytes, len(envelope.stream))


def _dry(
    contents: FileContents,
    profile: Profile,
    state_names: Sequence[str] | None,
    *,
    quick: bool = False,
) -> Writer:
    """A writer that has only counted."""
    writer = Writer(dry=True)
    write(writer, contents, profile, state_names, quick=quick)
    return writer


def _breakdown(bits: Mapping[str, float], header: int, stream: int) -> Breakdown:
    ends, position = {}, 0.0
    total = sum(bits.values())
    for part, size in bits.items():
        position += size
        ends[part] = round(stream * position / total) if total else 0
    if ends:
        ends[next(reversed(ends))] = stream
    sizes, start = {}, 0
    for part, end in ends.items():
        sizes[part], start = end - start, end
    return Breakdown(
        header=header,
        structure=sizes.get("structure", 0) + (stream - start),
        names=sizes.get("names", 0),
        scales=sizes.get("scales", 0),
        live=sizes.get("live", 0),
        symbols=_tensors(sizes, "symbols:"),
        biases=_tensors(sizes, "bias:"),
        raw=_tensors(sizes, "raw:"),
    )


def _tensors(sizes: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {
        part.removeprefix(prefix): size for part, size in sizes.items() if part.startswith(prefix)
    }
