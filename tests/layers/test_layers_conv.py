"""VariationalConv1d, VariationalConv2d and VariationalConv3d."""

from __future__ import annotations

import pytest
import torch
from tests.contracts.variational_layer import VariationalLayerContract
from torch import nn

from epigram.layers import (
    VariationalConv1d,
    VariationalConv2d,
    VariationalConv3d,
    VariationalConvTranspose2d,
)
from epigram.priors import GroupJeffreys

_BASE = {"in_channels": 4, "out_channels": 2, "kernel_size": 3}
_CASES = (
    _BASE,
    {**_BASE, "bias": False},
    {**_BASE, "stride": 2, "padding": 1},
    {**_BASE, "dilation": 2, "padding": "same"},
    {**_BASE, "padding": "valid"},
    {**_BASE, "groups": 2},
    {**_BASE, "out_channels": 4, "groups": 4, "padding": 1},
    {**_BASE, "padding": 1, "padding_mode": "reflect"},
    {**_BASE, "padding": 2, "padding_mode": "replicate", "stride": 2},
    {**_BASE, "padding": "same", "padding_mode": "circular", "groups": 2},
)


class TestVariationalConv1d(VariationalLayerContract):
    kind = VariationalConv1d
    plain = nn.Conv1d
    shape = (4, 7)
    cases = _CASES


class TestVariationalConv2d(VariationalLayerContract):
    kind = VariationalConv2d
    plain = nn.Conv2d
    shape = (4, 5, 6)
    cases = (
        *_CASES,
        {**_BASE, "kernel_size": (1, 3), "stride": (2, 1), "padding": (0, 2)},
        {**_BASE, "kernel_size": (2, 3), "padding": "same"},
        {**_BASE, "kernel_size": (2, 3), "padding": (1, 0), "padding_mode": "circular"},
    )

    def test_fields_torch_refuses_are_refused(self):
        with pytest.raises(ValueError, match="same"):
            VariationalConv2d(4, 2, 3, stride=2, padding="same")

    def test_sizes_follow_the_weights_and_groups(self):
        layer = VariationalConv2d(6, 6, 3, groups=6)
        for parameter in layer.parameters():
            parameter.data = parameter.data[:4]
        layer.groups = 4
        assert (layer.in_channels, layer.out_channels) == (4, 4)
        assert layer(torch.randn(1, 4, 5, 5)).shape == (1, 4, 3, 3)

    def test_device_and_dtype_are_those_asked_for(self):
        layer = VariationalConv2d(4, 2, 3, device="meta", dtype=torch.float16)
        assert all(p.device.type == "meta" for p in layer.parameters())
        assert all(p.dtype == torch.float16 for p in layer.parameters())


class TestVariationalConv3d(VariationalLayerContract):
    kind = VariationalConv3d
    plain = nn.Conv3d
    shape = (4, 3, 4, 3)
    cases = (
        {**_BASE, "kernel_size": 2},
        {**_BASE, "kernel_size": (1, 2, 1), "padding": (1, 0, 1), "padding_mode": "replicate"},
        {**_BASE, "kernel_size": (2, 1, 2), "padding": "same", "groups": 2, "bias": False},
        {**_BASE, "kernel_size": 2, "stride": (1, 2, 1), "dilation": (1, 1, 2)},
    )


class TestVariationalConv1dTied(TestVariationalConv1d):
    variances = "tied"


class TestVariationalConv2dTied(TestVariationalConv2d):
    variances = "tied"


class TestVariationalConv3dTied(TestVariationalConv3d):
    variances = "tied"


@pytest.mark.parametrize(
    ("kind", "groups"),
    [(VariationalConv2d, 1), (VariationalConv2d, 2), (VariationalConvTranspose2d, 1)],
)
def test_in_eval_the_output_is_the_plain_layers_to_the_bit(kind, groups):
    torch.manual_seed(0)
    scale = GroupJeffreys(4)
    layer = kind(4, 6, 3, padding=1, groups=groups, scale=scale).eval()
    with torch.no_grad():
        scale.z_mean.uniform_(0.5, 2.0)
        x = torch.randn(3, 4, 9, 9)
        assert torch.equal(layer(x), layer.plain()(x))
