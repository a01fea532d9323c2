"""One output of a convolution of squares, place by place."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from epigram.maths.places import Geometry, squares_by_places

_CASES: dict[str, tuple[Callable[..., Tensor], tuple[int, ...], Geometry]] = {
    "1d": (F.conv1d, (9,), Geometry((3,), (1,), (1,), (1,))),
    "1x1": (F.conv2d, (4, 5), Geometry((1, 1), (1, 1), (0, 0), (1, 1))),
    "2d": (F.conv2d, (5, 6), Geometry((3, 2), (1, 1), (0, 1), (1, 1))),
    "strided": (F.conv2d, (7, 6), Geometry((3, 3), (2, 3), (1, 1), (1, 1))),
    "dilated": (F.conv2d, (7, 8), Geometry((3, 3), (1, 2), (2, 1), (2, 3))),
    "far outside": (F.conv2d, (2, 2), Geometry((5, 5), (2, 1), (4, 3), (1, 1))),
    "3d": (F.conv3d, (3, 4, 3), Geometry((2, 1, 2), (1, 2, 1), (1, 0, 1), (1, 1, 1))),
}


@pytest.mark.parametrize("name", _CASES)
@pytest.mark.parametrize("last", [False, True])
def test_it_is_torchs_convolution_with_its_gradients(name: str, last: bool) -> None:
    convolve, space, geometry = _CASES[name]
    x = torch.randn(3, 4, *space, dtype=torch.float64)
    if last:
        x = x.movedim(1, -1).contiguous().movedim(-1, 1)
    x.requires_grad_()
    factors = torch.rand(1, 4, *geometry.kernel, dtype=torch.float64, requires_grad=True)
    ours = squares_by_places(x, factors, geometry)
    expected = convolve(
        x.square(), factors, None, geometry.stride, geometry.padding, geometry.dilation
    )
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    direction = torch.randn_like(expected)
    got = torch.autograd.grad(ours, (x, factors), direction)
    wanted = torch.autograd.grad(expected, (x, factors), direction)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


def test_in_16_bits_it_is_as_near_as_the_inputs_are() -> None:
    geometry = Geometry((3, 3), (1, 1), (1, 1), (1, 1))
    x = torch.randn(2, 16, 8, 8).bfloat16().contiguous(memory_format=torch.channels_last)
    factors = torch.rand(1, 16, 3, 3, requires_grad=True)
    ours = squares_by_places(x, factors, geometry)
    exact = F.conv2d(x.double().square(), factors.double(), None, 1, 1)
    assert ours.dtype == torch.bfloat16
    # x², the factors, the maps and the sum are rounded to 8 bits each; all terms are positive
    assert ((ours.double() - exact).abs() <= 4 * 2**-8 * exact).all()
    ours.float().sum().backward()
    assert factors.grad.dtype == torch.float32
