"""What is in a file, as plain data: no torch, no model."""

from __future__ import annotations

from typing import Any

from epigram.codec.container import Profile, unwrap
from epigram.codec.files import decode
from epigram.codec.layout import code_heads
from epigram.codec.limits import Limits
from epigram.codec.naming import code_numbers
from epigram.codec.reader import Reader
from epigram.codec.sizes import breakdown
from epigram.codec.text import TextStates
from epigram.records import CodedTensor, FileContents


def inspect(data: bytes, *, limits: Limits = Limits()) -> dict[str, Any]:  # noqa: B008  (frozen)
    """Everything a file says by itself, ready for JSON.

    A bare file says its size, profile, the kind and step of each tensor, whether symbols may be coefficients,
    numbers of modules if it holds some; a named one also names, shapes,
    edits, metadata and bytes by part. The checksum has been verified.

    Raises:
        FormatError: not an epigram file, damaged, or beyond the limits.
    """
    envelope = unwrap(bytes(data), limits)
    out: dict[str, Any] = {
        "format_version": envelope.version,
        "profile": envelope.profile,
        "file_bytes": len(data),
        "checksum": "ok",
    }
    if envelope.profile == "named":
        contents = decode(data, limits=limits)
        return out | _named(contents) | {"breakdown": breakdown(data, limits=limits).flat()}
    reader = Reader(envelope.stream)
    heads = code_heads(reader, None, limits)
    if envelope.numbers:
        out["numbers"] = code_numbers(reader, None, TextStates(limits), limits)
    if envelope.cosine:
        out["cosine"] = True
    out["tensors"] = [
        {"kind": "raw", "dtype": str(head.dtype)}
        if head.step_size is None
        else {"kind": "coded", "step_size": head.step_size}
        for head in heads
    ]
    out["breakdown"] = {
        "header": envelope.header_bytes,
        "stream": len(envelope.stream),
        "checksum": len(data) - envelope.header_bytes - len(envelope.stream),
    }
    return out


def profile_of(data: bytes, *, limits: Limits = Limits()) -> Profile:  # noqa: B008  (frozen)
    """*bare* or *named*.

    Raises:
        FormatError: not an epigram file, damaged, or too long.
    """
    return unwrap(bytes(data), limits).profile


def _named(contents: FileContents) -> dict[str, Any]:
    tensors = []
    for tensor in contents.tensors:
        entry: dict[str, Any] = {
            "name": tensor.name,
            "shape": list(tensor.shape),
            "dense_shape": list(tensor.dense_shape),
        }
        if isinstance(tensor, CodedTensor):
            entry |= {"kind": "coded", "step_size": tensor.step_size}
            entry["nonzero"] = int((tensor.symbols != 0).sum())
            if tensor.cosine:
                entry["cosine"] = True
            if tensor.live is not None:
                entry["live"] = {"axis": tensor.live_axis, "positions": int(tensor.live.sum())}
        else:
            entry |= {"kind": "raw", "dtype": str(tensor.values_.dtype)}
        tensors.append(entry)
    units = {e.name: {"kept": int(e.kept.sum()), "dense": len(e.kept)} for e in contents.edits}
    said = {"tensors": tensors, "units": units, "metadata": dict(contents.metadata)}
    return said | ({"numbers": dict(contents.numbers)} if contents.numbers else {})
