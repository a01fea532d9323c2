"""Units within a budget: it is met, the most needed stay, and price counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from epigram.convert import Twin, bayesianize
from epigram.prune import keep_within, unit_prices


@pytest.fixture
def twin() -> Twin:
    """6 units of 5 multiplications each before 4 units of 6, removability rising with the unit."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 1))
    made = bayesianize(network, torch.randn(2, 4))
    for name in made.names:
        scale = made.scale(name)
        rising = torch.linspace(-6.0, 2.0, scale.units)
        scale.z_logvar.data.copy_(rising + 2 * scale.z_mean.data.abs().log())
    made.scale("0.positions").z_logvar.data.fill_(-20.0)
    return made


def parameters(model: nn.Module) -> float:
    return float(sum(p.numel() for p in model.parameters()))


def kept(twin: Twin, budget: float, **more) -> dict[str, int]:
    keep = keep_within(twin, parameters, budget, **more)
    twin.shrink_(keep)
    assert parameters(twin.plain()) <= budget
    return {name: int(mask.sum()) for name, mask in keep.items()}


def test_all_stay_where_all_fit(twin: Twin) -> None:
    assert kept(twin, 63.0)["0"] == 6


@pytest.mark.parametrize("budget", [62.0, 50.0, 30.0, 20.0])
def test_the_budget_is_met_and_one_unit_more_would_not_fit(twin: Twin, budget: float) -> None:
    values = np.concatenate([twin.removability()[name] for name in ("0", "2")])
    keep = keep_within(twin, parameters, budget)
    mask = np.concatenate([keep["0"], keep["2"]])
    assert values[mask].max() < values[~mask].min()
    back = values == values[~mask].min()  # units of equal removability come together
    more = np.split(mask | back, [6])
    twin.shrink_({"0": more[0], "2": more[1]})
    assert parameters(twin.plain()) > budget


def test_prices_are_what_a_unit_costs_and_dear_units_go_first(twin: Twin) -> None:
    prices = unit_prices(twin, parameters)
    assert prices["0"] == 4 + 1 + 4  # its weights, its bias, and who reads it
    assert prices["2"] == 6 + 1 + 1
    assert twin.units_kept()["0"] == (6, 6)
    dear = {**prices, "2": 1e6 * prices["2"]}
    assert kept(twin, 50.0, prices=dear) == {"0": 6, "2": 2, "0.positions": 4}


def test_where_nothing_fits_one_unit_of_each_group_stays(twin: Twin) -> None:
    keep = keep_within(twin, parameters, 1.0)
    assert [int(keep[name].sum()) for name in ("0", "2")] == [1, 1]


def test_another_removability_decides_where_it_is_given(twin: Twin) -> None:
    other = {name: -values for name, values in twin.removability().items()}
    keep = keep_within(twin, parameters, 40.0, removability=other)
    assert keep["0"].tolist() == sorted(keep["0"])  # the first units go now
    assert not keep["0"].all()
