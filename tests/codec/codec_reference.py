"""The range decoder of docs/format.md, written from the document, one symbol at a time."""

from __future__ import annotations


class ReferenceDecoder:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 8
        self._number = int.from_bytes(data[:8].ljust(8, b"\0"), "big")  # number - low
        self._range = 2**64 - 1

    def symbol(self, table: list[int]) -> int:
        unit = self._range >> 24
        place, start = self._number // unit, 0
        assert place < 2**24
        symbol = 0
        while place >= start + table[symbol]:
            start += table[symbol]
            symbol += 1
        frequency = table[symbol]
        self._number -= unit * start
        self._range = unit * frequency
        while self._range < 2**32:
            word = int.from_bytes(self._data[self._at : self._at + 4].ljust(4, b"\0"), "big")
            self._at += 4
            self._number, self._range = self._number << 32 | word, self._range << 32
        return symbol

    def below(self, size: int) -> int:
        share = 2**24 // size
        return self.symbol([share] * (size - 1) + [2**24 - share * (size - 1)])
