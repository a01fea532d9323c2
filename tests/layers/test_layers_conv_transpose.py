"""VariationalConvTranspose1d, VariationalConvTranspose2d and VariationalConvTranspose3d."""

from __future__ import annotations

import pytest
import torch
from tests.contracts.variational_layer import VariationalLayerContract
from torch import nn

from epigram.errors import ConfigError
from epigram.layers import (
    VariationalConvTranspose1d,
    VariationalConvTranspose2d,
    VariationalConvTranspose3d,
    from_plain,
)

_BASE = {"in_channels": 4, "out_channels": 2, "kernel_size": 3}
_CASES = (
    _BASE,
    {**_BASE, "bias": False},
    {**_BASE, "stride": 2, "padding": 1, "output_padding": 1},
    {**_BASE, "stride": 3, "dilation": 2, "output_padding": 2},
    {**_BASE, "groups": 2, "bias": False},
    {**_BASE, "out_channels": 4, "groups": 4, "padding": 1},
)


class TestVariationalConvTranspose1d(VariationalLayerContract):
    kind = VariationalConvTranspose1d
    plain = nn.ConvTranspose1d
    shape = (4, 4)
    cases = _CASES


class TestVariationalConvTranspose2d(VariationalLayerContract):
    kind = VariationalConvTranspose2d
    plain = nn.ConvTranspose2d
    shape = (4, 3, 2)
    cases = (*_CASES, {**_BASE, "kernel_size": (1, 3), "stride": (1, 2), "output_padding": (0, 1)})

    @pytest.mark.parametrize("size", [(5, 4), (6, 5), (2, 2, 6, 4)])
    def test_output_size_is_that_of_torch(self, size: tuple[int, ...]):
        plain = nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1)
        x = torch.randn(2, 4, 3, 2)
        layer = from_plain(plain).eval()
        wanted = (size[-2], size[-1])
        if wanted == (6, 5):  # the second side can be 3 or 4
            with pytest.raises(ConfigError, match=r"output_size=\(6, 5\).*\(5, 3\) and \(6, 4\)"):
                layer(x, output_size=size)
        else:
            assert torch.equal(layer(x, output_size=size), plain(x, output_size=list(size)))
            assert layer.train()(x, output_size=size).shape[-2:] == wanted


class TestVariationalConvTranspose3d(VariationalLayerContract):
    kind = VariationalConvTranspose3d
    plain = nn.ConvTranspose3d
    shape = (4, 2, 2, 2)
    cases = (
        {**_BASE, "kernel_size": 2},
        {**_BASE, "kernel_size": (1, 2, 1), "groups": 2},
        {
            **_BASE,
            "kernel_size": 2,
            "stride": (1, 2, 1),
            "output_padding": (0, 1, 0),
            "bias": False,
        },
    )


class TestVariationalConvTranspose1dTied(TestVariationalConvTranspose1d):
    variances = "tied"


class TestVariationalConvTranspose2dTied(TestVariationalConvTranspose2d):
    variances = "tied"


class TestVariationalConvTranspose3dTied(TestVariationalConvTranspose3d):
    variances = "tied"
