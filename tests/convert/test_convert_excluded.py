"""What a user leaves out or freezes stays as it is; what cannot be converted at all is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from epigram.convert import bayesianize
from epigram.errors import ConfigError, UnsupportedModelError
from epigram.layers import VariationalLinear


class Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 4))
        self.second = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


def test_frozen_means_may_be_given_a_spread() -> None:
    network = Blocks()
    network.second[0].requires_grad_(False)
    x = torch.randn(2, 4)
    assert set(bayesianize(network, x).deterministic) == {"second.0"}
    twin = bayesianize(network, x, frozen="variational")
    layer = twin.network.second[0]
    assert isinstance(layer, VariationalLinear)
    assert not layer.weight_mean.requires_grad
    assert layer.weight_logvar.requires_grad
    assert not twin.plain().second[0].weight.requires_grad


@pytest.mark.parametrize(
    ("rule", "left"),
    [
        ("first", {"first.0", "first.2"}),
        ("*.2", {"first.2", "second.2"}),
        (nn.Sequential, {"first.0", "first.2", "second.0", "second.2"}),
        (lambda module: module.out_features == 3, {"second.2"}),
    ],
)
def test_what_the_user_excludes_stays(rule: Any, left: set[str]) -> None:
    network, x = Blocks(), torch.randn(2, 4)
    if left == {"first.0", "first.2", "second.0", "second.2"}:
        with pytest.raises(UnsupportedModelError, match=r"first\.0: excluded by the user"):
            bayesianize(network, x, ignored_layers=[rule])
        return
    twin = bayesianize(network, x, ignored_layers=[rule])
    assert twin.deterministic == dict.fromkeys(sorted(left), "excluded by the user")


def test_an_excluded_module_takes_what_is_inside_with_it() -> None:
    network, x = Blocks(), torch.randn(2, 4)
    twin = bayesianize(network, x, ignored_layers=[network.second])
    assert set(twin.deterministic) == {"second.0", "second.2"}
    assert twin.unscaled == {
        "first.2": "read by second.0, which stays as it is: excluded by the user",
        "second.0": "read by second.2, which stays as it is: excluded by the user",
    }
    assert "first.0" in twin.names


def test_a_group_with_a_deterministic_reader_has_no_scale() -> None:
    """Its scale would be noise to one reader while the other still needs the unit."""

    class Forked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.left, self.right = nn.Linear(4, 5), nn.Linear(5, 3), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.stem(x))
            return self.left(x) + self.right(x)

    x = torch.randn(2, 4)
    assert "stem" in bayesianize(Forked(), x).names
    twin = bayesianize(Forked(), x, ignored_layers=["right"])
    assert "stem" not in twin.names
    assert twin.unscaled["stem"].startswith("read by right")


def test_a_name_that_fits_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'frist' fits no module.*first\.0"):
        bayesianize(Blocks(), torch.randn(2, 4), ignored_layers=["frist"])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda n: n.half(), r"first\.0: its weights are torch\.float16.*\.float\(\)"),
        (lambda n: n.bfloat16(), r"first\.0: its weights are torch\.bfloat16"),
        (lambda n: n.to("meta"), r"first\.0: its weights are on the meta device.*to_empty"),
        (lambda n: n.requires_grad_(False), r"first\.0: frozen.*and 1 more"),
    ],
)
def test_networks_that_cannot_be_trained_are_refused(
    spoil: Callable[[nn.Module], nn.Module], said: str
) -> None:
    with pytest.raises(UnsupportedModelError, match=said):
        bayesianize(spoil(Blocks()), torch.randn(2, 4))
