"""One event as a line: JSON with a sequence number and a checksum of everything else in the line.

A line is on the disk whole or it was never acknowledged, so a torn tail may be cut. Everything else that
does not fit is damage: it is named by its line and never passed over.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from epigram.errors import LedgerError

_OPEN = b'{"crc":"'
_CRC_CHARS = 8


@dataclass(frozen=True)
class Event:
    """Something that happened to a study.

    Attributes:
        seq: 1, 2, 3, … without gaps.
        type: what happened; see ``events``.
        data: the rest.
    """

    seq: int
    type: str
    data: Mapping[str, Any]


def encode(event: Event) -> bytes:
    r"""The event as a line, newline included.

    Raises:
        ValueError: it holds a NaN or an infinity, which JSON has no word for.

    Example:
        >>> encode(Event(1, "asked", {"run_id": "a"}))
        b'{"crc":"3b3ef8b0","seq":1,"type":"asked","run_id":"a"}\n'
    """
    body = json.dumps(
        {"seq": event.seq, "type": event.type, **event.data},
        allow_nan=False,
        separators=(",", ":"),
    ).encode("ascii")
    return _OPEN + _crc(body) + b'",' + body[1:] + b"\n"


def decode(line: bytes) -> Event:
    """The inverse of ``encode``, without the newline.

    Raises:
        ValueError: the line is not one of ours, or any bit of it has changed.
    """
    start = len(_OPEN) + _CRC_CHARS
    if line[: len(_OPEN)] != _OPEN or line[start : start + 2] != b'",':
        raise ValueError("it does not begin like an event")
    body = b"{" + line[start + 2 :]
    if _crc(body) != line[len(_OPEN) : start]:
        raise ValueError("its checksum does not fit")
    data = json.loads(body)
    seq, kind = data.pop("seq"), data.pop("type")
    return Event(seq, kind, data)


def decode_all(content: bytes, *, where: str) -> tuple[list[Event], int]:
    """All events, and how many bytes they take: what lies behind is a torn tail.

    Raises:
        LedgerError: any other damage; the message names the line.
    """
    events: list[Event] = []
    at = 0
    while at < len(content):
        end = content.find(b"\n", at)
        number = len(events) + 1
        if end < 0:
            _check_torn(content[at:], number, where=where)
            break
        try:
            event = decode(content[at:end])
        except ValueError as error:
            raise _damaged(where, number, str(error)) from error
        if event.seq != number:
            raise _damaged(where, number, f"its number is {event.seq}, expected {number}")
        events.append(event)
        at = end + 1
    return events, at


def _check_torn(tail: bytes, number: int, *, where: str) -> None:
    """A torn line is the beginning of one; a whole one whose newline has turned into something else is damage."""
    try:
        decode(tail[:-1])
    except ValueError:
        return
    raise _damaged(where, number, "it does not end with a newline")


def _damaged(where: str, number: int, why: str) -> LedgerError:
    return LedgerError(
        f"{where}, line {number}: {why}. The ledger is damaged there; nothing was changed. Put back a "
        "copy of the file, or begin the study again in another folder"
    )


def _crc(body: bytes) -> bytes:
    return f"{zlib.crc32(body):08x}".encode("ascii")
