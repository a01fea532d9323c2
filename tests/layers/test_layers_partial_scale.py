"""A scale that acts on some of a reader's inputs: index -1 is a factor of exactly 1."""

from __future__ import annotations

import pytest
import torch

from epigram.errors import ConfigError
from epigram.layers import ScaleUse, VariationalConv2d, VariationalLinear
from epigram.priors import GroupJeffreys


def scale(units: int) -> GroupJeffreys:
    made = GroupJeffreys(units)
    made.z_mean.data.uniform_(0.5, 1.5)
    return made


@torch.no_grad()
def test_inputs_without_a_unit_have_the_factor_one() -> None:
    torch.manual_seed(0)
    z = scale(2)
    use = ScaleUse(z, torch.tensor([1, -1, 0, -1, 1]))
    at = [z.mean()[1], 1.0, z.mean()[0], 1.0, z.mean()[1]]
    assert use.inputs() == 5
    assert use.mean().tolist() == [float(v) for v in at]
    squares = z.second_moment()
    assert use.second_moment().tolist() == [
        float(v) for v in (squares[1], 1, squares[0], 1, squares[1])
    ]
    draw = use.draw(7)
    assert draw.shape == (7, 5)
    assert (draw[:, [1, 3]] == 1).all()
    torch.testing.assert_close(draw[:, 0], draw[:, 4], rtol=0, atol=0)


def test_gradients_reach_the_scale_through_its_own_inputs_only() -> None:
    z = scale(2)
    use = ScaleUse(z, torch.tensor([0, -1, -1]))
    use.mean()[1:].sum().backward()
    assert z.z_mean.grad is not None
    assert z.z_mean.grad.tolist() == [0.0, 0.0]


def test_two_partial_scales_are_one_scale_over_all_inputs() -> None:
    """A reader of a concatenation is the reader of one long group."""
    torch.manual_seed(0)
    whole, left, right = scale(5), scale(2), scale(3)
    left.z_mean.data.copy_(whole.z_mean[:2])
    right.z_mean.data.copy_(whole.z_mean[2:])
    uses = [
        ScaleUse(left, torch.tensor([0, 1, -1, -1, -1])),
        ScaleUse(right, torch.tensor([-1, -1, 0, 1, 2])),
    ]
    one = VariationalConv2d(5, 3, 3, scale_uses=[ScaleUse(whole)]).eval()
    two = VariationalConv2d(5, 3, 3, scale_uses=uses).eval()
    two.load_state_dict(one.state_dict())
    x = torch.randn(2, 5, 4, 4)
    torch.testing.assert_close(one(x), two(x), rtol=0, atol=0)
    torch.testing.assert_close(one.weight, two.weight, rtol=0, atol=0)
    for a, b in zip(one.scale_moments(), two.scale_moments(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_unit_below_minus_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"-2\.\.1, expected units 0\.\.1 .* or -1 for none"):
        VariationalLinear(3, 1, scale_uses=[ScaleUse(scale(2), torch.tensor([0, 1, -2]))])
