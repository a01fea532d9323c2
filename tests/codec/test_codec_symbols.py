"""Every model of symbols: what is written comes back, and a decoder written from the document reads it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epigram.codec import trellis
from epigram.codec.contexts import squash
from epigram.codec.logits import CERTAIN, STRETCH
from epigram.codec.reader import Reader
from epigram.codec.symbols import SymbolStates
from epigram.codec.writer import Writer
from epigram.errors import FormatError


def _module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_CODER, _SYMBOLS = _module("codec_reference"), _module("codec_symbols_reference")


def _made_by_a_trellis(shape: tuple[int, ...], spread: float, *, lanes: bool) -> np.ndarray:
    k = np.rint(np.random.default_rng(5).laplace(size=shape) * spread).astype(np.int64)
    form = k if lanes else k.ravel()
    return trellis.integers(form, trellis.states(form & 1) & 1).reshape(shape).astype(np.int32)


def _draw(kind: str) -> np.ndarray:
    rng = np.random.default_rng(3)
    rows, columns = rng.lognormal(size=(9, 1, 1, 1)), rng.lognormal(size=(1, 7, 1, 1))
    return {
        "rows-and-columns": np.rint(rng.laplace(size=(9, 7, 3, 3)) * rows * columns * 3),
        "sparse": np.where(rng.random((12, 40)) < 0.9, 0, np.rint(rng.normal(size=(12, 40)) * 3)),
        "wide": np.rint(rng.normal(size=(6, 5)) * 2.0**20),
        "vector": rng.integers(-4, 5, 30),
        "off-centre": 100_000 + np.rint(rng.normal(size=50) * 900),
        "scalar": np.array(-3),
        "zeros": np.zeros((4, 5)),
        "one-column": rng.integers(-2, 3, (20, 1, 5, 5)),
        "extremes": np.array([[-(2**31), 2**31 - 1], [0, 1]]),
        "chain": _made_by_a_trellis((10, 8, 3, 3), 2.0, lanes=False),
        "chain-wide": _made_by_a_trellis((70,), 900.0, lanes=False),
        "lanes": _made_by_a_trellis((12, 6, 2), 1.5, lanes=True),
    }[kind].astype(np.int32)


KINDS = [
    "rows-and-columns", "sparse", "wide", "vector", "off-centre", "scalar", "zeros", "one-column",
    "extremes", "chain", "chain-wide", "lanes",
]  # fmt: skip


def _written(tensors: list[np.ndarray], *, tries: bool) -> bytes:
    writer, states = Writer(), SymbolStates(tries=tries)
    for values in tensors:
        states.code(writer, "symbols:w", values.ravel(), values.shape)
    return writer.finish()


@pytest.mark.parametrize("tries", [False, True], ids=["scaled", "shortest"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_decoder_written_from_the_document_reads_the_symbols(kind: str, tries: bool) -> None:
    tensors = [_draw(kind), _draw("vector"), _draw(kind)]
    data = _written(tensors, tries=tries)
    reader, states = Reader(data), SymbolStates()
    reference = _SYMBOLS.Symbols(_CODER.ReferenceDecoder(data))
    for values in tensors:
        ours = states.code(reader, "symbols:w", None, values.shape)
        assert ours.tolist() == values.ravel().tolist()
        assert reference.tensor(values.shape) == values.ravel().tolist()
    reader.finish()


def test_all_models_are_taken_somewhere() -> None:
    """The reference test above would prove nothing of a model that is never chosen."""

    def taken(*, tries: bool) -> SymbolStates:
        states = SymbolStates(tries=tries)
        for kind in KINDS:
            values = _draw(kind)
            states.code(Writer(dry=True), "symbols:w", values.ravel(), values.shape)
        return states

    scaled = taken(tries=False)
    parts = scaled.scaled
    flags = [scaled.some, parts.trellis, parts.lanes, parts.rows, parts.columns, parts.centred]
    for flag in (*flags, taken(tries=True).mixed):
        assert flag.ones and flag.zeros


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=0, max_size=4),
    st.integers(0, 2**32 - 1),
    st.floats(-3, 20),
    st.booleans(),
)
def test_any_symbols_come_back(shape: list[int], seed: int, octaves: float, tries: bool) -> None:
    draw = np.random.default_rng(seed).laplace(size=shape) * 2.0**octaves
    values = np.clip(np.rint(draw), -(2**31), 2**31 - 1).astype(np.int32)
    data = _written([values], tries=tries)
    reader = Reader(data)
    got = SymbolStates().code(reader, "symbols:w", None, tuple(shape))
    assert got.tolist() == values.ravel().tolist()
    reader.finish()


@given(st.lists(st.integers(-(2**30), 2**30), min_size=1, max_size=60))
def test_states_of_a_chain_are_those_of_the_walk(k: list[int]) -> None:
    state, walked = 0, []
    for index in k:
        walked.append(state)
        state = (0, 7, 1, 6, 2, 5, 3, 4)[state] ^ 2 * (index & 1)
    values = np.array(k, dtype=np.int64)
    assert trellis.states(values & 1).tolist() == walked
    assert trellis.states((values & 1)[:, None]).ravel().tolist() == walked  # by running xor
    integers = trellis.integers(values, np.array(walked) & 1)
    back = trellis.indices(integers)
    assert back is not None and back.tolist() == k


def test_integers_no_trellis_made_are_told() -> None:
    assert trellis.indices(np.array([1, 2, 3, 4], dtype=np.int64)) is None


def test_log_odds_rise_and_mirror() -> None:
    squashed = [squash(x) for x in range(-CERTAIN - 5, CERTAIN + 6)]
    assert squashed == sorted(squashed)
    assert all(abs(a + b - 65536) <= 1 for a, b in zip(squashed, squashed[::-1], strict=True))
    exact = np.log((np.arange(4096) + 0.5) / (4095.5 - np.arange(4096))) * 256
    assert np.abs(np.array(STRETCH) - exact)[8:-8].max() < 2.0  # 1 of rounding up, 1 of the table


def test_mixed_contexts_are_for_small_tensors_only() -> None:
    """A hostile file may ask for them where it likes: symbols are read one by one there."""
    writer, states = Writer(), SymbolStates()
    writer.flag(states.some, 1)
    writer.flag(states.mixed, 1)
    with pytest.raises(FormatError, match="mixed contexts"):
        SymbolStates().code(Reader(writer.finish()), "symbols:w", None, (1 << 15, 2))
