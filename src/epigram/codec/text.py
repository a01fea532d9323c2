"""Names and metadata: UTF-8, byte by byte under adaptive bits that know the byte before."""

from __future__ import annotations

from epigram.codec.coder import Coder, Flag
from epigram.codec.limits import Limits
from epigram.errors import FormatError


class TextStates:
    """What the texts of a file share; ``left`` is how many bytes may still come."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._used = limits, 0
        self._length = [Flag() for _ in range(12)]
        self._prefix = [Flag() for _ in range(8)]
        self._bits: dict[tuple[int, int], Flag] = {}
        self._last = b""

    def code(self, coder: Coder, text: str | None) -> str:
        """One string: how many bytes it shares with the one before, how many follow, and these.

        Raises:
            FormatError: too long, or not UTF-8.
        """
        data = None if text is None else text.encode("utf-8")
        shared = None if data is None else _shared(data, self._last)
        shared = coder.natural(self._prefix, shared)
        if shared > len(self._last):
            raise FormatError(f"text: got {shared} shared bytes of {len(self._last)}")
        length = coder.natural(self._length, None if data is None else len(data) - shared)
        self._used = self._limits.check(
            "text bytes", self._used + shared + length, "max_text_bytes"
        )
        out = bytearray(self._last[:shared])
        for place in range(shared, shared + length):
            before = out[place - 1] if place else 0
            out.append(self._byte(coder, before, None if data is None else data[place]))
        self._last = bytes(out)
        try:
            return self._last.decode("utf-8")
        except UnicodeDecodeError as error:
            raise FormatError(f"text: got bytes that are not UTF-8 ({error})") from error

    def _byte(self, coder: Coder, before: int, value: int | None) -> int:
        node = 1
        for shift in range(7, -1, -1):
            flag = self._bits.get((before, node))
            if flag is None:
                flag = self._bits[before, node] = Flag()
            node = 2 * node + coder.flag(flag, None if value is None else (value >> shift) & 1)
        return node - 256


def _shared(data: bytes, last: bytes) -> int:
    for place, (ours, theirs) in enumerate(zip(data, last, strict=False)):
        if ours != theirs:
            return place
    return min(len(data), len(last))
