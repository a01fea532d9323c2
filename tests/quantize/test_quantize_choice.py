"""Steps and symbols: cheap where it does not hurt."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from epigram.codec import representable_step, tensor_bits
from epigram.errors import ConfigError
from epigram.quantize import QuantizeSettings, ToQuantise, choose_symbols, quantise, step_for_price
from epigram.quantize.rate_distortion import code_lengths
from epigram.records import CodedTensor, RawTensor

F64 = NDArray[np.float64]


def distortion(weights: F64, std: F64, symbols: NDArray[np.int32], step: float) -> float:
    """Expected loss of likelihood, nats, by a plain loop."""
    pairs = zip(weights.ravel(), std.ravel(), symbols.ravel(), strict=True)
    return sum((w - step * int(q)) ** 2 / (2 * s * s) for w, s, q in pairs)


def own_code(symbols: NDArray[np.int32]) -> float:
    """Nats under add-half estimates of the magnitudes that occur, and a bit per sign; a plain loop."""
    magnitudes = [abs(int(q)) for q in symbols.ravel()]
    counts = {m: magnitudes.count(m) + 0.5 for m in range(max(magnitudes) + 1)}
    total = sum(counts.values())
    return sum(np.log(total / counts[m]) + (np.log(2) if m else 0.0) for m in magnitudes)


def rounded(weights: F64, step: float) -> NDArray[np.int32]:
    return np.rint(weights / step).astype(np.int32)


@given(
    seed=st.integers(0, 10_000),
    size=st.integers(1, 60),
    log_step=st.floats(-3, 1),
    log_price=st.floats(-4, 4),
    sweeps=st.integers(0, 4),
)
@hypothesis_settings(max_examples=60, deadline=None)
def test_never_worse_than_plain_rounding_in_its_own_objective(
    seed: int, size: int, log_step: float, log_price: float, sweeps: int
) -> None:
    rng = np.random.default_rng(seed)
    weights, std = rng.standard_t(2, size), 10.0 ** rng.uniform(-2, 0, size)
    step, price = 10.0**log_step, 10.0**log_price
    chosen = choose_symbols(weights, std, step=step, price=price, sweeps=sweeps)
    simple = rounded(weights, step)
    if max(np.abs(simple).max(), np.abs(chosen).max()) > 4000:
        return  # beyond the table the estimate is a formula
    costs = [distortion(weights, std, q, step) + price * own_code(q) for q in (chosen, simple)]
    assert costs[0] <= costs[1] * (1 + 1e-12)


def test_no_sweep_is_plain_rounding() -> None:
    weights = np.random.default_rng(0).normal(size=(4, 5))
    chosen = choose_symbols(weights, np.ones((4, 5)), step=0.1, price=10.0, sweeps=0)
    np.testing.assert_array_equal(chosen, rounded(weights, 0.1))


def test_fewer_real_bits_at_less_loss_than_a_coarser_step() -> None:
    """Against plain rounding at whatever step costs as many real bits: the loss is smaller."""
    rng = np.random.default_rng(1)
    weights = rng.laplace(0, 1, 4000) * (rng.random(4000) < 0.3)
    std, price = np.full(4000, 0.3), 2.0
    step = step_for_price(std, price)
    chosen = choose_symbols(weights, std, step=step, price=price)
    bits, loss = tensor_bits(chosen), distortion(weights, std, chosen, step)
    coarser = [step * k for k in np.geomspace(1, 3, 30)]
    as_cheap = [s for s in coarser if tensor_bits(rounded(weights, s)) <= bits]
    assert as_cheap
    assert loss < min(distortion(weights, std, rounded(weights, s), s) for s in as_cheap)


@pytest.mark.parametrize("uneven", [False, True], ids=["even", "uneven"])
@pytest.mark.parametrize("price", [0.01, 0.1])
def test_the_step_is_the_best_one_at_high_rate(price: float, uneven: bool) -> None:
    """Against a search over steps under the entropy of the symbols.

    The weights spread over many steps, so theory is exact but for the sample: the objective is flat at
    its minimum, so it is the objective that is compared, within 0.002 nats a weight.
    """
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 1, 20_000)
    std = 0.05 * (10.0 ** rng.uniform(-0.3, 0.3, 20_000) if uneven else np.ones(20_000))

    def objective(step: float) -> float:
        symbols = rounded(weights, step)
        _, counts = np.unique(symbols, return_counts=True)
        entropy = float(np.log(len(weights) / counts) @ counts)
        lost = np.square(weights - step * symbols) / (2 * std**2)
        return (float(lost.sum()) + price * entropy) / len(weights)

    step = step_for_price(std, price)
    searched = min(objective(step * k) for k in np.geomspace(0.2, 5, 41))
    assert objective(step) <= searched + 0.002 * price
    assert objective(2 * step) > objective(step) < objective(step / 2)
    if not uneven:
        assert step == pytest.approx(np.sqrt(12 * price) * 0.05)


def test_code_lengths_are_a_code() -> None:
    """Kraft: the probabilities of all symbols that occur in the table sum to at most one."""
    symbols = np.random.default_rng(0).poisson(1.5, 300) * np.random.default_rng(1).choice(
        [-1, 1], 300
    )
    length = code_lengths(symbols.astype(np.int64))
    top = int(np.abs(symbols).max())
    assert np.exp(-length(np.arange(-top, top + 1))).sum() == pytest.approx(1.0)
    beyond = length(np.array([top, top + 1, 2 * top + 2, -2 * top - 2]))
    assert (np.diff(beyond[:3]) >= 0).all()
    assert beyond[2] == beyond[3]


def test_dead_positions_take_no_symbols_and_no_part_in_the_step() -> None:
    rng = np.random.default_rng(0)
    live = np.array([True, False, True, False])
    values, std = rng.normal(size=(3, 4)), np.full((3, 4), 0.1)
    values[:, ~live], std[:, ~live] = 0.0, 0.0
    tensor = ToQuantise("w", values, (3, 9), std, live)
    (coded,) = quantise({"w": tensor}, price=0.01, representable_step=representable_step)
    assert isinstance(coded, CodedTensor)
    assert (coded.symbols[:, ~live] == 0).all()
    assert coded.live is live
    packed = ToQuantise("w", values[:, live], (3, 9), std[:, live])
    (other,) = quantise({"w": packed}, price=0.01, representable_step=representable_step)
    assert other.step_size == coded.step_size
    np.testing.assert_array_equal(other.symbols, coded.symbols[:, live])


def test_what_has_no_posterior_is_kept_as_it_is() -> None:
    values = np.array([1.5, np.pi], np.float32)
    (raw,) = quantise(
        {"b": ToQuantise("b", values, (2,))}, price=1.0, representable_step=representable_step
    )
    assert isinstance(raw, RawTensor)
    assert raw.values() is values


@pytest.mark.parametrize(
    ("values", "std", "message"),
    [
        ([np.nan, 1.0], [1.0, 1.0], "w holds a value"),
        ([0.0, 1.0], [0.0, 1.0], "standard deviation"),
    ],
)
def test_what_cannot_be_quantised_is_named(
    values: list[float], std: list[float], message: str
) -> None:
    tensor = ToQuantise("w", np.array(values), (2,), np.array(std))
    with pytest.raises(ConfigError, match=message):
        quantise({"w": tensor}, price=1.0, representable_step=representable_step)


def test_an_empty_tensor_and_a_symbol_out_of_sight() -> None:
    empty = ToQuantise("w", np.zeros((2, 0)), (2, 3), np.zeros((2, 0)))
    (coded,) = quantise({"w": empty}, price=1.0, representable_step=representable_step)
    assert coded.shape == (2, 0)
    far = choose_symbols(np.array([1e30, 0.0]), np.ones(2), step=1e-30, price=1.0)
    assert far.tolist() == [2**30, 0]


@pytest.mark.parametrize(
    "bad", [{"finest": 0.0}, {"finest": 2000.0}, {"trials": 0}, {"sweeps": -1}]
)
def test_settings_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        QuantizeSettings(**bad)
