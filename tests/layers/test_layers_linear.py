"""VariationalLinear."""

from __future__ import annotations

import torch
from tests.contracts.variational_layer import VariationalLayerContract
from torch import nn

from epigram.layers import VariationalLinear
from epigram.priors import GroupJeffreys


class TestVariationalLinear(VariationalLayerContract):
    kind = VariationalLinear
    plain = nn.Linear
    shape = (5,)
    cases = (
        {"in_features": 5, "out_features": 3},
        {"in_features": 5, "out_features": 3, "bias": False},
        {"in_features": 5, "out_features": 2},
    )

    def test_axes_between_examples_and_features_share_an_examples_scale(self):
        scale = GroupJeffreys(5, dtype=torch.float64)
        layer = VariationalLinear(5, 3, scale=scale, logvar_init=-60.0, dtype=torch.float64)
        x = torch.randn(2, 1, 5, dtype=torch.float64).expand(2, 7, 5)
        y = layer(x).detach()
        # the weights' noise is exp(-30) and eps^0.5 = 1e-4; the scale's is 0.1
        assert (y - y[:, :1]).abs().max() < 1e-3
        assert y.shape == (2, 7, 3)

    def test_sizes_follow_the_weights(self):
        layer = VariationalLinear(5, 3)
        layer.weight_mean.data = layer.weight_mean.data[:2, :4]
        assert (layer.in_features, layer.out_features) == (4, 2)


class TestVariationalLinearTied(TestVariationalLinear):
    variances = "tied"
