"""Compiled or not, the kernels say the same; and the range coder is constriction's."""

from __future__ import annotations

import importlib.util
import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from constriction import stream
from hypothesis import given, settings
from hypothesis import strategies as st

from epigram import codec
from epigram.codec import layout, native, trellis
from epigram.codec.coder import Flag
from epigram.codec.contexts import share
from epigram.codec.reader import Reader
from epigram.codec.symbols import SymbolStates
from epigram.codec.writer import Writer
from epigram.errors import FormatError
from epigram.records import CodedTensor, FileContents

TOTAL = 2**24
GOLDEN = Path(__file__).parents[1] / "golden"


def _kit(form: str) -> native.Kit:
    found = native.compiled() if form == "compiled" else native.plain()
    if found is None:
        pytest.skip("numba is not installed, or has no place for its cache")
    return found


FORMS = ["plain", "compiled"]


@pytest.mark.parametrize("form", FORMS)
def test_the_words_are_those_of_constriction(form: str) -> None:
    rng, kit = np.random.default_rng(0), _kit(form)
    other, writer, tables = stream.queue.RangeEncoder(), Writer(kit), []
    for turn in range(400):
        extreme = turn % 3 == 0  # a symbol that is nearly certain, and its carries
        cuts = rng.integers(1, 40 if extreme else TOTAL, rng.integers(1, 30))
        edges = [0, *np.unique(cuts).tolist(), TOTAL]
        table = np.diff(edges)
        values = rng.integers(0, len(table), 5).astype(np.int32)
        if extreme:
            values[1:] = len(table) - 1
        model = stream.model.Categorical(table - 1.0, perfect=False)
        other.encode(values, model)
        writer.table(table, values, len(values))
        tables.append((table, values))
    data = writer.finish()
    words = other.get_compressed().astype(">u4").tobytes()
    assert data[: len(words) - 8] == words[: len(words) - 8]
    padded = np.frombuffer(data + bytes(-len(data) % 4), ">u4").astype(np.uint32)
    theirs, ours = stream.queue.RangeDecoder(padded), Reader(data, kit)
    for table, values in tables:
        model = stream.model.Categorical(table - 1.0, perfect=False)
        assert theirs.decode(model, len(values)).tolist() == values.tolist()
        assert ours.table(table, None, len(values)).tolist() == values.tolist()
    ours.finish()


def test_a_carry_runs_through_words_that_are_full() -> None:
    """Flags just below a boundary for many words, then a step over it."""
    for form, first in itertools.product(FORMS, range(2, 9)):
        writer, other = Writer(_kit(form)), stream.queue.RangeEncoder()
        rare = stream.model.Categorical(np.array([TOTAL - 2.0, 0.0]), perfect=False)
        even = stream.model.Uniform(first)
        told = [0] + [first - 1] * 40
        for value in told:
            writer.uniform(first, np.array([value], np.int32), 1)
            other.encode(value, even)
        for value in (1, 1, 1, 0):
            writer.table([TOTAL - 1, 1], np.array([value], np.int32), 1)
            other.encode(value, rare)
        words = other.get_compressed().astype(">u4").tobytes()
        assert writer.finish()[: len(words) - 8] == words[: len(words) - 8]


def _tensors() -> list[np.ndarray]:
    rng = np.random.default_rng(11)
    scale = rng.lognormal(size=(12, 1, 1, 1)) * rng.lognormal(size=(1, 8, 1, 1))
    k = np.rint(rng.laplace(size=(30, 20)) * 3).astype(np.int64)
    chain = trellis.integers(k.ravel(), trellis.states(k.ravel() & 1) & 1).reshape(k.shape)
    wide = np.rint(rng.laplace(size=80) * 2.0**20).astype(np.int64)
    return [
        np.rint(rng.laplace(size=(12, 8, 3, 3)) * scale * 4).astype(np.int32),
        chain.astype(np.int32),
        trellis.integers(k, trellis.states(k & 1) & 1).astype(np.int32),
        trellis.integers(wide, trellis.states(wide & 1) & 1).astype(np.int32),
        np.rint(rng.normal(size=(40,)) * 2.0**24).astype(np.int32),
        (100_000 + np.rint(rng.normal(size=50) * 900)).astype(np.int32),
        np.array([[-(2**31), 2**31 - 1], [0, 1]], np.int32),
        np.where(rng.random((9, 40)) < 0.95, 0, rng.integers(-90, 90, (9, 40))).astype(np.int32),
    ]


@pytest.mark.parametrize("mixed", [False, True], ids=["scaled", "mixed"])
def test_both_forms_write_and_read_the_same(mixed: bool) -> None:
    tensors = _tensors()
    written = []
    for form in FORMS:
        kit = _kit(form)
        writer, states = Writer(kit), SymbolStates(kit=kit)
        for values in tensors:
            states.code_as(writer, "symbols:w", values.ravel(), values.shape, mixed)
        written.append(writer.finish())
    assert written[0] == written[1]
    for form in FORMS:
        kit = _kit(form)
        reader, states = Reader(written[0], kit), SymbolStates(kit=kit)
        for values in tensors:
            got = states.code(reader, "symbols:w", None, values.shape)
            assert got.tolist() == values.ravel().tolist()
        reader.finish()


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), st.sampled_from([(3, 4), (2, 3, 3, 3), (25,), (1, 30)]))
def test_both_forms_read_noise_alike(data: bytes, shape: tuple[int, ...]) -> None:
    outcomes = []
    for form in FORMS:
        kit = _kit(form)
        states, reader = SymbolStates(kit=kit), Reader(data, kit)
        try:
            outcomes.append([states.code(reader, "w:w", None, shape).tolist() for _ in range(4)])
        except FormatError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]


@given(st.integers(0, 2**46), st.integers(0, 2**46), st.integers(2**40, 2**47))
def test_a_product_beyond_63_bits_is_shared_exactly(first: int, second: int, third: int) -> None:
    assert share(first, second, third) == first * second // third


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("profile", ["bare", "named"])
def test_golden_files_under_both_forms(
    form: str, profile: Literal["bare", "named"], monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = _kit(form)
    monkeypatch.setattr(layout, "fit_for", lambda work: kit)
    spec = importlib.util.spec_from_file_location("make_golden", GOLDEN / "make_golden.py")
    assert spec is not None and spec.loader is not None
    script: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    contents = script.contents()
    assert codec.encode(contents, profile=profile) == script.path(profile).read_bytes()
    dense = {tensor.name: tensor.dense_shape for tensor in contents.tensors}
    for version in (1, 2):
        data = (GOLDEN / f"v{version}-{profile}.epg").read_bytes()
        got = codec.decode(data, dense_shapes=dense)
        for ours, theirs in zip(got.tensors, contents.tensors, strict=True):
            np.testing.assert_array_equal(ours.values(), theirs.values())


def test_a_little_work_loads_no_compiler() -> None:
    code = (
        "import sys, numpy as np; from epigram import codec; from epigram.records import *\n"
        "w = np.arange(-50, 50, dtype=np.int32).reshape(10, 10)\n"
        "data = codec.encode(FileContents((CodedTensor('w', w.shape, w, 1.0),)), profile='named')\n"
        "codec.inspect(data); sys.exit('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_numba_everything_is_done_in_python() -> None:
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "from epigram.codec import native; native._WORK[0] = 1 << 30\n"
        "sys.exit(native.fit_for(1) is not native.plain())"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_flags_that_have_seen_much_stay_within_their_table() -> None:
    for form in FORMS:
        writer = Writer(_kit(form))
        for flag, bit in ((Flag(zeros=1 << 30), 1), (Flag(ones=1 << 30), 0)):
            writer.flag(flag, bit)
        assert 47.9 < writer.total_bits < 48.1


def test_large_contents_come_back_from_the_compiled_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """More symbols than a writer's tape holds at first, in one tensor and in several."""
    kit, rng = _kit("compiled"), np.random.default_rng(0)
    monkeypatch.setattr(layout, "fit_for", lambda work: kit)
    values = np.rint(rng.laplace(size=(120, 120, 3, 3)) * 3).astype(np.int32)
    tensors = tuple(CodedTensor(n, values.shape, values, 0.5) for n in "abc")
    data = codec.encode(FileContents(tensors))
    got = codec.decode(data, dense_shapes=dict.fromkeys("abc", values.shape))
    for tensor in got.tensors:
        assert isinstance(tensor, CodedTensor)
        np.testing.assert_array_equal(tensor.symbols, values)


def test_without_a_place_for_the_cache_everything_is_done_in_python() -> None:
    pytest.importorskip("numba")
    code = (
        "import numba.core.caching as c; c.CacheImpl._locator_classes = []\n"
        "from epigram.codec import native; native._WORK[0] = 1 << 30\n"
        "raise SystemExit(native.fit_for(1) is not native.plain())"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
