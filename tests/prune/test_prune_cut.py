"""Where the cut is made, and that masks of units and positions agree."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from tests.convert.convert_networks import made
from torch import nn

from epigram.convert import Twin, bayesianize
from epigram.errors import ConfigError
from epigram.prune import PruneSettings, choose_cut, keep_below, settle
from epigram.prune.cut import candidate_cuts
from epigram.records import Floor


def twin_with(removability: dict[str, list[float]], network: nn.Module, x: torch.Tensor) -> Twin:
    """A twin whose scales have these log alphas."""
    twin = bayesianize(network, x, "group-jeffreys")
    for name, values in removability.items():
        scale = twin.scale(name)
        scale.z_logvar.data.copy_(torch.tensor(values) + 2 * scale.z_mean.data.abs().log())
    return twin


@pytest.fixture
def twin() -> Twin:
    """Eight units of log alpha -7 ... 0; four inputs that are clearly needed."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    values = {"0": [float(k) for k in range(-7, 1)], "0.positions": [-9.0] * 4}
    return twin_with(values, network, torch.randn(2, 4))


def by_units(worth: Callable[[int], float]) -> Callable[[nn.Module], float]:
    return lambda model: worth(model[0].out_features)


def test_the_fewest_units_that_hold_the_floor(twin: Twin) -> None:
    """With u units the metric is u / 10: seven are needed for 0.7, although more may go."""
    decision = choose_cut(twin, by_units(lambda u: u / 10), Floor("accuracy", 0.5), PruneSettings())
    assert decision.chosen.keep["0"].tolist() == [True] * 5 + [False] * 3
    assert decision.chosen.metric == 0.5
    assert decision.uncut_metric == 0.8
    assert twin.units_kept()["0"] == (8, 8)  # the twin itself is not changed
    sizes = [c.parameters for c in decision.tried]
    assert sizes == sorted(sizes)
    assert {c.metric for c in decision.tried} >= {u / 10 for u in range(1, 9)}


def test_below_the_floor_the_tolerance_says_what_a_cut_may_cost(twin: Twin) -> None:
    """Nothing meets 0.9, so a cut may lose 0.001 against the uncut network and no more."""
    worth = {8: 0.85, 7: 0.8495, 6: 0.8492, 5: 0.848}
    decision = choose_cut(
        twin,
        by_units(lambda u: worth.get(u, 0.1)),
        Floor("accuracy", 0.9),
        PruneSettings(tolerance=0.001),
    )
    assert int(decision.chosen.keep["0"].sum()) == 6
    strict = choose_cut(
        twin,
        by_units(lambda u: worth.get(u, 0.1)),
        Floor("accuracy", 0.9),
        PruneSettings(tolerance=0.0),
    )
    assert int(strict.chosen.keep["0"].sum()) == 8


def test_a_metric_that_should_be_small(twin: Twin) -> None:
    decision = choose_cut(twin, by_units(lambda u: 1 / u), Floor.parse("nll<=0.25"))
    assert int(decision.chosen.keep["0"].sum()) == 4


def test_a_metric_that_is_not_monotone(twin: Twin) -> None:
    """The smallest network that holds is taken, also where a larger one does not."""
    worth = {8: 0.95, 7: 0.5, 6: 0.5, 3: 0.95}
    decision = choose_cut(twin, by_units(lambda u: worth.get(u, 0.1)), Floor("accuracy", 0.9))
    assert int(decision.chosen.keep["0"].sum()) == 3


def test_where_nothing_can_be_measured_nothing_is_cut(twin: Twin) -> None:
    decision = choose_cut(twin, lambda model: float("nan"), Floor("accuracy", 0.9))
    assert decision.chosen.keep["0"].all()


def test_candidates_end_with_one_that_cuts_nothing(twin: Twin) -> None:
    cuts = candidate_cuts(twin, 5)
    assert cuts == sorted(cuts)
    values = np.concatenate(list(twin.removability().values()))
    assert cuts[-1] > values.max()
    assert len(cuts) <= 6
    fixed = bayesianize(*made("lenet-300-100"), "unit")
    assert keep_below(fixed.removability(), candidate_cuts(fixed, 5)[-1])["fc1"].all()


def test_one_unit_is_always_left() -> None:
    keep = keep_below({"a": np.array([5.0, 4.0, 6.0]), "b": np.array([1.0, 9.0])}, 2.0)
    assert keep["a"].tolist() == [False, True, False]
    assert keep["b"].tolist() == [True, False]


def test_units_without_positions_go_and_positions_without_units() -> None:
    twin = bayesianize(*made("conv-bn-relu"))  # group "3" of 8, nine positions each
    owners = twin.position_owners("7.positions")
    keep = {name: np.ones(n, bool) for name, (n, _) in twin.units_kept().items()}
    keep["7.positions"][owners == 2] = False
    keep["7.positions"][np.flatnonzero(owners == 5)[:8]] = False
    keep["3"][4] = False
    settled = settle(twin, keep)
    assert np.flatnonzero(~settled["3"]).tolist() == [2, 4]
    assert not settled["7.positions"][(owners == 2) | (owners == 4)].any()
    assert settled["7.positions"][owners == 5].sum() == 1
    assert keep["3"].sum() == 7  # what was given is not changed
    twin.shrink_(settled)
    assert twin.units_kept() == {"0": (6, 6), "3": (6, 8), "7.positions": (46, 72)}


def test_a_unit_that_another_layer_reads_whole_stays() -> None:
    """All its positions behind the flatten are dead, but a convolution still reads the channel."""
    twin = bayesianize(*made("two-readers"))
    keep = {name: np.ones(n, bool) for name, (n, _) in twin.units_kept().items()}
    keep["places.positions"][twin.position_owners("places.positions") == 1] = False
    settled = settle(twin, keep)
    assert settled["conv"].all()
    assert settled["places.positions"].sum() == 48


@pytest.mark.parametrize("units_too", [False, True])
def test_settling_never_empties_a_scale(units_too: bool) -> None:
    twin = bayesianize(*made("lenet-5"))
    keep = {name: np.ones(n, bool) for name, (n, _) in twin.units_kept().items()}
    keep["fc1.positions"][:] = False
    keep["conv2"][:] = not units_too
    settled = settle(twin, keep)
    assert all(mask.any() for mask in settled.values())
    twin.shrink_(settled)


@pytest.mark.parametrize("bad", [{"candidates": 0}, {"shrink_patience": 0}, {"tolerance": -0.1}])
def test_settings_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        PruneSettings(**bad)
