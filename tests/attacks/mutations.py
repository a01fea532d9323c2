"""Hostile files: bytes changed under a right outside, and values changed inside a stream that stays well coded."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import numpy as np

from epigram import codec
from epigram.codec import trellis
from epigram.codec.coder import Coder
from epigram.codec.container import Envelope, unwrap, wrap
from epigram.codec.layout import code_contents
from epigram.codec.limits import Limits
from epigram.codec.native import Kit, plain
from epigram.codec.range_coder import ERROR, POSITION, READ, TOTAL
from epigram.codec.reader import Reader
from epigram.codec.writer import Writer
from epigram.errors import FormatError
from epigram.records import CodedTensor, FileContents, GroupEdit, RawTensor

Shapes = dict[str, tuple[int, ...]]
SMALL_LIMITS = Limits(
    max_elements=1 << 14, max_text_bytes=1 << 10, max_mask_bits=1 << 10, max_tensors=64
)


def corpus() -> list[tuple[bytes, Shapes]]:
    """Small files that use every part of the format."""
    rng = np.random.default_rng(0)
    k = np.rint(rng.laplace(size=24) * 3).astype(np.int64)
    chain = trellis.integers(k, trellis.states(k & 1) & 1).reshape(4, 6)
    dead = rng.integers(-2, 3, (4, 8))
    dead[:, 5:] = 0
    tensors = (
        CodedTensor("a.weight", (6, 12), dead.astype(np.int32), 0.5, (dead != 0).any(0)),
        CodedTensor("a.bias", (6,), rng.integers(-99, 99, 4).astype(np.int32), 0.25),
        CodedTensor("t", (4, 6), chain.astype(np.int32), 0.125),
        CodedTensor("k", (3, 2, 3, 3), rng.integers(-1, 2, (3, 2, 3, 3)).astype(np.int32), 1.0),
        CodedTensor("w", (5,), rng.integers(-(2**28), 2**28, 5).astype(np.int32), 1.0),
        RawTensor("n", (), np.array(7, dtype=np.int64)),
        RawTensor("v", (6,), rng.normal(size=4).astype(np.float32)),
        CodedTensor("e.weight", (3, 5, 4), np.zeros((0, 5, 4), np.int32), 0.5),
        RawTensor("e.mean", (0, 7), np.zeros((0, 7), np.float32)),
    )
    coefficients = replace(tensors[3], cosine=True)
    out = []
    for some in (
        tensors[:2], tensors[2:4], tensors[4:7], tensors[1:2], tensors[3:4], (coefficients, tensors[1]),
        tensors[7:],
    ):  # fmt: skip
        edits = (GroupEdit("a", np.array([1, 0, 1, 1, 0, 1], dtype=bool)),)
        numbers = {"a.heads": 3} if len(some) == 1 else {}
        contents = FileContents(some, edits, {"key": "value"}, numbers)
        shapes = {tensor.name: tensor.dense_shape for tensor in some}
        for profile in ("bare", "named"):
            out.append((codec.encode(contents, profile=profile), shapes))  # noqa: PERF401
    return out


def of_bytes(rng: random.Random, data: bytes) -> bytes:
    """A few bytes of the stream changed, inserted, cut or doubled; length and checksum mended."""
    envelope = unwrap(data, Limits())
    inside = bytearray(envelope.stream)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        place, what = rng.randrange(len(inside) + 1), rng.randrange(5)
        if what == 0 and place < len(inside):
            inside[place] ^= 1 << rng.randrange(8)
        elif what == 1 and place < len(inside):
            inside[place] = rng.choice((0, 255, rng.randrange(256)))
        elif what == 2:
            inside[place:place] = rng.randbytes(rng.choice((1, 2, 8)))
        elif what == 3:
            del inside[place : place + rng.choice((1, 2, 4))]
        else:
            inside[place:place] = inside[: rng.choice((4, 16))]
    return _wrapped(bytes(inside), envelope, rng)


class Liar(Coder):
    """Writes what a reader of ``data`` would read, but now and then something else.

    From the first lie on, what is read makes no sense; it is still coded as a valid stream, so every check
    behind the entropy coder is met by numbers that a hostile writer could choose.
    """

    def __init__(self, data: bytes, rng: random.Random, often: float) -> None:
        lies = {"code_block": self._block, "code_bit": self._bit, "code_even": self._even}
        lies |= {name: getattr(plain(), name) for name in ("u64", "i64", "new")}
        super().__init__(Kit(lambda function, _: function, lies, is_compiled=False), READ)
        self._source, self._rng, self._often = Reader(data), rng, often
        self._tape: list[int] = []
        self._tally[1] = 8.0 * len(data) + 4096

    def use(self, kit: Kit) -> None:
        """Its own kernels, always."""

    def _symbol(self, sums: Any, at: int, size: int) -> int:
        if self._rng.random() < self._often:
            lies = [lie for lie in (0, 1, 1, 2, 15, 48, 255, 65535) if lie < size]
            symbol = self._rng.choice(lies)
        else:
            source = self._source
            told = [0]
            plain().code_block(source._s, source._data, sums, at, size, told, 0, 1, [0] * size)
            symbol = told[0]
            if source._s[ERROR]:
                raise FormatError("stream: no more truth")
        self._tape.append(sums[at + symbol] << 25 | sums[at + symbol + 1] - sums[at + symbol])
        return symbol

    def _block(
        self,
        s: Any,
        data: Any,
        sums: Any,
        at: int,
        size: int,
        values: Any,
        start: int,
        end: int,
        seen: Any,
    ) -> None:
        for i in range(start, end):
            values[i] = self._symbol(sums, at, size)
            seen[values[i]] += 1

    def _bit(self, s: Any, data: Any, bits: Any, one: int, given: int) -> int:
        bit = self._symbol([0, TOTAL - one, TOTAL], 0, 2)
        plain().account(s, bits, 24 - math.log2(one if bit else TOTAL - one), 1)
        return bit

    def _even(self, s: Any, data: Any, size: int, given: int) -> int:
        return self._symbol([*(i * (TOTAL // size) for i in range(size)), TOTAL], 0, size)

    def finish(self) -> bytes:
        """What was said so far."""
        writer = Writer()
        writer._data, writer._s[POSITION] = self._tape, len(self._tape)
        return writer.finish()


def of_values(rng: random.Random, data: bytes, shapes: Shapes) -> bytes | None:
    """The stream with some of its values replaced, or None where the lies end the writing."""
    envelope = unwrap(data, Limits())
    liar = Liar(envelope.stream, rng, rng.choice((0.01, 0.03, 0.1)))
    try:
        code_contents(
            liar,
            profile=envelope.profile,
            contents=None,
            dense=None if envelope.profile == "named" else shapes,
            present=None,
            limits=SMALL_LIMITS,
            version=envelope.version,
            numbers=envelope.numbers,
            cosine=envelope.cosine,
        )
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
    return _wrapped(liar.finish(), envelope, rng)


def _wrapped(inside: bytes, envelope: Envelope, rng: random.Random) -> bytes:
    numbers = envelope.numbers != (rng.random() < 0.05)
    cosine = envelope.cosine != (rng.random() < 0.05)
    data = bytearray(wrap(inside, envelope.profile, numbers=numbers, cosine=cosine))
    if rng.random() < 0.15:  # the older version reads the same stream otherwise
        from zlib import crc32

        data[3] = (data[3] & 15) | 1 << 4
        data[-4:] = crc32(bytes(data[:-4])).to_bytes(4, "little")
    return bytes(data)
