"""The tables used are the integers intended, and the stream is what the document says."""

from __future__ import annotations

import importlib.util
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from constriction import stream
from hypothesis import given
from hypothesis import strategies as st

from epigram.codec.adaptive import Alphabet, adaptive_bits, code_adaptive
from epigram.codec.coder import Flag
from epigram.codec.reader import Reader
from epigram.codec.writer import Writer
from epigram.errors import FormatError

_SPEC = importlib.util.spec_from_file_location(
    "codec_reference", Path(__file__).with_name("codec_reference.py")
)
assert _SPEC is not None and _SPEC.loader is not None
_REFERENCE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_REFERENCE)

TOTAL = 2**24


@st.composite
def tables(draw: st.DrawFn) -> list[int]:
    cuts = draw(st.lists(st.integers(1, TOTAL - 1), min_size=1, max_size=40, unique=True))
    edges = [0, *sorted(cuts), TOTAL]
    return [right - left for left, right in itertools.pairwise(edges)]


@given(tables())
def test_constriction_uses_exactly_these_integers(table: list[int]) -> None:
    unit, start = (2**64 - 1) >> 24, 0
    for symbol, frequency in enumerate(table):
        model = stream.model.Categorical(np.array(table, dtype=np.float64) - 1.0, perfect=False)
        encoder = stream.queue.RangeEncoder()
        encoder.encode(symbol, model)
        words, (low, width) = encoder.pos()
        assert low == (unit * start << 32 * words) % 2**64
        assert width == unit * frequency << 32 * words
        start += frequency


@given(st.lists(st.tuples(tables(), st.integers(0, 10**6)), max_size=40))
def test_a_decoder_written_from_the_document_reads_the_stream(
    what: list[tuple[list[int], int]],
) -> None:
    writer = Writer()
    expected = [pick % len(table) for table, pick in what]
    for (table, _), symbol in zip(what, expected, strict=True):
        writer.table(table, np.array([symbol], dtype=np.int32), 1)
    data = writer.finish()
    # nothing is lost to 32-bit words: a byte for the tail, and the 1/256 of rounding per symbol
    assert len(data) * 8 <= writer.total_bits + 0.006 * len(what) + 8
    reference, reader = _REFERENCE.ReferenceDecoder(data), Reader(data)
    assert [reference.symbol(table) for table, _ in what] == expected
    assert [int(reader.table(table, None, 1)[0]) for table, _ in what] == expected
    reader.finish()


@given(st.lists(st.tuples(st.integers(1, 2**16), st.integers(0, 2**16)), max_size=30))
def test_equally_likely_values_are_as_in_the_document(what: list[tuple[int, int]]) -> None:
    writer = Writer()
    for size, pick in what:
        writer.below(size, pick % size)
    reference = _REFERENCE.ReferenceDecoder(writer.finish())
    assert [reference.below(size) for size, _ in what] == [pick % size for size, pick in what]


@given(st.lists(st.integers(0, 2**32 - 2)), st.lists(st.integers(-(2**31) + 1, 2**31 - 1)))
def test_integers_come_back(naturals: list[int], signed: list[int]) -> None:
    def code(coder: Reader | Writer, given: bool) -> tuple[list[int], list[int]]:
        one, two = [Flag() for _ in range(4)], [Flag() for _ in range(4)]
        return (
            [coder.natural(one, value if given else None) for value in naturals],
            [coder.signed(two, value if given else None) for value in signed],
        )

    writer = Writer()
    code(writer, given=True)
    assert code(Reader(writer.finish()), given=False) == (naturals, signed)


@given(st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 2**40)), min_size=1, max_size=30))
def test_an_alphabet_is_always_a_table(counts: list[tuple[int, int]]) -> None:
    alphabet = Alphabet(len(counts))
    alphabet.stops, alphabet.passes = [s for s, _ in counts], [p for _, p in counts]
    table = alphabet.table()
    assert sum(table) == TOTAL and min(table) >= 1


def test_the_predicted_code_length_is_the_ideal_one_symbol_by_symbol() -> None:
    """The closed form against the product of the estimator's own probabilities."""
    symbols = np.random.default_rng(0).geometric(0.4, 300).clip(max=9).astype(np.int32)
    seen = np.zeros((10, 2))
    bits = 0.0
    for symbol in symbols:
        for node in range(min(symbol, 9) + 1):
            if node == 9:
                break
            stop, go = seen[node]
            stops = node == symbol
            bits -= math.log2(((stop if stops else go) + 0.5) / (stop + go + 1))
            seen[node, 0 if stops else 1] += 1
    assert adaptive_bits(np.bincount(symbols, minlength=10)) == pytest.approx(bits, rel=1e-9)
    writer = Writer(dry=True)
    code_adaptive(writer, 9, symbols, len(symbols))
    assert writer.total_bits == pytest.approx(bits, rel=0.02)  # blocks learn a little later


def test_bytes_that_no_encoder_writes_are_refused() -> None:
    with pytest.raises(FormatError, match="no encoder writes"):
        Reader(b"\xff" * 12).below(3, None)


def test_a_stream_longer_than_its_symbols_is_refused() -> None:
    writer = Writer()
    writer.below(256, 7)
    reader = Reader(writer.finish() + b"\x01\x02\x03\x04")
    reader.below(256, None)
    with pytest.raises(FormatError, match="expected at most"):
        reader.finish()
