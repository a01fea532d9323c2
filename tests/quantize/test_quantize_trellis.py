"""The trellis quantiser: what comes out is a trellis' integers, as good as a search of all paths, and better than rounding."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from epigram.errors import ConfigError
from epigram.quantize.post_training import Trellis, pack_tensor
from epigram.quantize.trellis import CodeLengths, trellis_integers
from epigram.quantize.vectors import vector_step
from epigram.records import CodedTensor, RawTensor

MOVES = (0, 7, 1, 6, 2, 5, 3, 4)
TRELLIS = Trellis(MOVES, lambda step: step)


def _walk(integers: list[int]) -> list[int]:
    """Indices, or a failure where an integer is not on its grid."""
    state, out = 0, []
    for n in integers:
        grid = state & 1
        assert n == 0 or (n - grid) % 2 == 0
        k = (abs(n) + grid) // 2 if n else 0
        out.append(k)
        state = MOVES[state] ^ 2 * (k & 1)
    return out


def _bits(k: int, mean: float) -> float:
    if not k:
        return math.log2(1 + 2 * mean)
    first = math.log2(1 + 2 * mean) - math.log2(2 * mean) + 1 + math.log2(1 + mean)
    return first + (k - 1) * math.log2(1 + 1 / mean)


def _cost(values: np.ndarray, integers: list[int], mean: float, price: float) -> float:
    bits = sum(_bits(k, mean) for k in _walk(integers))
    return float(np.square(values - np.array(integers)).sum()) + price * bits


def test_a_short_chain_is_the_best_of_all_paths() -> None:
    values = np.random.default_rng(1).normal(size=5) * 2.0
    lengths = CodeLengths.of_mean(np.full(5, 1.3))
    got = trellis_integers(values, np.ones(5), lengths, price=0.4, moves=MOVES).tolist()
    best = math.inf
    for ks in itertools.product(range(-4, 5), repeat=5):
        state, integers = 0, []
        for k in ks:
            integers.append(2 * k - (state & 1) * ((k > 0) - (k < 0)))
            state = MOVES[state] ^ 2 * (k & 1)
        best = min(best, _cost(values, integers, 1.3, 0.4))
    assert _cost(values, got, 1.3, 0.4) == pytest.approx(best)


def test_segments_fit_together_and_cost_next_to_nothing() -> None:
    """Cut into segments of 256, a chain is within 0.1 % of the exact path (one lane, no cuts)."""
    from epigram.quantize import trellis

    values = np.random.default_rng(2).laplace(size=1500) * 1.5
    lengths = CodeLengths.of_mean(np.full(1500, 1.0))

    def cost() -> float:
        got = trellis_integers(values, np.ones(1500), lengths, price=0.3, moves=MOVES)
        return _cost(values, got.tolist(), 1.0, 0.3)

    cut = cost()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trellis, "SEGMENT", 1500)
        whole = cost()
    assert whole <= cut * (1 + 1e-12) and cut < 1.001 * whole


def test_less_error_for_the_entropy_than_rounding() -> None:
    """A normal source at some 3.7 bits: rounding lies 1.5 dB above the bound, the trellis under 0.8."""
    values = np.random.default_rng(3).normal(size=20_000) * 6.0
    lengths = CodeLengths.of_mean(np.full(len(values), 2.4))
    got = trellis_integers(values, np.ones(len(values)), lengths, price=0.3, moves=MOVES)
    counts = np.unique(_walk_signed(got), return_counts=True)[1] / len(values)
    rate = -(counts * np.log2(counts)).sum()
    error = np.square(values - got).mean()
    assert 10 * math.log10(error / (36.0 * 2.0 ** (-2 * rate))) < 0.8


def _walk_signed(integers: np.ndarray) -> np.ndarray:
    return np.array(_walk(integers.tolist())) * np.sign(integers)


def test_a_precision_moves_the_error_to_where_it_matters_less() -> None:
    values = np.random.default_rng(4).normal(size=(40, 50))
    precision = np.ones((40, 50))
    precision[:, :25] = 30.0
    plain, weighted = (
        pack_tensor("w", values, step=0.4, trellis=TRELLIS, precision=p) for p in (None, precision)
    )
    assert isinstance(plain, CodedTensor) and isinstance(weighted, CodedTensor)
    gap = [np.square(t.values() - values)[:, :25].mean() for t in (plain, weighted)]
    assert gap[1] < 0.95 * gap[0]
    coarse = pack_tensor(
        "w", values, step=0.4, trellis=TRELLIS, precision=np.full((40, 50), 1 / 16)
    )
    assert isinstance(coarse, CodedTensor) and coarse.step_size == 0.8  # matters less as a whole


def test_what_is_no_weight_is_told_finely_or_as_it_is() -> None:
    variances = np.array([1e-4, 1.0, 3.0], dtype=np.float32)
    packed = pack_tensor("v", variances, step=1.0, trellis=TRELLIS)
    assert isinstance(packed, CodedTensor)
    np.testing.assert_allclose(packed.values(), variances, rtol=2.0**-5)
    assert isinstance(pack_tensor("n", np.array(3), step=1.0, trellis=TRELLIS), RawTensor)
    assert isinstance(pack_tensor("i", np.arange(4), step=1.0, trellis=TRELLIS), RawTensor)
    nothing = pack_tensor("z", np.zeros((3, 3)), step=1.0, trellis=TRELLIS)
    assert isinstance(nothing, CodedTensor) and not nothing.symbols.any()
    assert vector_step(np.array([1.0, -1.0])) == 2.0**-9


def test_a_value_that_is_not_finite_is_named() -> None:
    with pytest.raises(ConfigError, match="bad"):
        pack_tensor("bad", np.array([[1.0, np.nan]]), step=1.0, trellis=TRELLIS)
