"""The outside of a file: magic, version and profile, length, stream, checksum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from zlib import crc32

from epigram.codec.limits import Limits
from epigram.errors import FormatError

Profile = Literal["bare", "named"]

MAGIC = b"\xe9pg"
VERSION = 2
READABLE = (1, 2)
PROFILES: dict[int, Profile] = {0: "bare", 1: "named"}
NUMBERS = 2
"""Added to a profile where the stream holds numbers that modules keep beside their tensors."""
COSINE = 4
"""Added to a profile where symbols of some tensors are coefficients of a cosine transform."""
CHECKSUM_BYTES = 4
_SHORTEST = len(MAGIC) + 1 + 1 + CHECKSUM_BYTES


@dataclass(frozen=True)
class Envelope:
    """A file whose outside is in order."""

    version: int
    profile: Profile
    header_bytes: int
    stream: bytes
    numbers: bool = False
    cosine: bool = False


def wrap(stream: bytes, profile: Profile, *, numbers: bool = False, cosine: bool = False) -> bytes:
    """The file around a stream."""
    number = next(code for code, name in PROFILES.items() if name == profile)
    number += NUMBERS * numbers + COSINE * cosine
    start = MAGIC + bytes([VERSION << 4 | number])
    bare = len(start) + len(stream) + CHECKSUM_BYTES
    length = next(n for n in range(1, 6) if len(_varint(bare + n)) == n)
    body = start + _varint(bare + length) + stream
    return body + crc32(body).to_bytes(CHECKSUM_BYTES, "little")


def unwrap(data: bytes, limits: Limits) -> Envelope:
    """Check the outside of a file.

    Raises:
        FormatError: not an epigram file, another version, damaged, cut off, or too long.
    """
    if len(data) < _SHORTEST or data[: len(MAGIC)] != MAGIC:
        raise FormatError(
            f"file: got {len(data)} bytes starting with {data[:4]!r}, expected an epigram file "
            f"starting with {MAGIC!r}"
        )
    version, number = data[3] >> 4, data[3] & 15
    if version not in READABLE:
        raise FormatError(
            f"file: got format version {version}, expected one of {READABLE}; it was written by another "
            "release of epigram, or is damaged"
        )
    profile, more = number & ~(NUMBERS | COSINE), number & (NUMBERS | COSINE)
    if profile not in PROFILES or (more and version < VERSION):
        raise FormatError(
            f"file: got profile {number} of version {version}, expected one of {PROFILES}, and from version "
            f"{VERSION} on {NUMBERS} more where it holds numbers, {COSINE} more where it holds coefficients"
        )
    limits.check("file bytes", len(data), "max_file_bytes")
    length, start = _read_varint(data, len(MAGIC) + 1)
    if length != len(data):
        raise FormatError(f"file: got {len(data)} bytes, expected {length}; cut off or damaged")
    body, checksum = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
    if start > len(body) or crc32(body) != int.from_bytes(checksum, "little"):
        raise FormatError("file: the checksum does not match; the file is damaged")
    return Envelope(
        version,
        PROFILES[profile],
        start,
        body[start:],
        numbers=bool(more & NUMBERS),
        cosine=bool(more & COSINE),
    )


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, start: int) -> tuple[int, int]:
    value = 0
    for place in range(5):
        byte = data[start + place] if start + place < len(data) else 0
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, start + place + 1
    raise FormatError("file: got a length of more than 5 bytes; damaged")
