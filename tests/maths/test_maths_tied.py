"""Variances of rank one: their KL, samples and bounds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.reference import maths_reference as reference
from torch import Tensor

from epigram.maths.tied import clamp_sum_, sample_tied_outputs, sum_kl_tied_normal

# means, outputs' part, inputs' part
_SHAPES = [
    ((4, 7), (4, 1), (1, 7)),
    ((3, 2, 5, 5), (3, 1, 1, 1), (1, 2, 5, 5)),
    ((6, 2), (1, 2), (6, 1)),
]


def _layers() -> list[tuple[Tensor, ...]]:
    return [
        tuple(torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes)
        for shapes in _SHAPES
    ]


def test_kl_is_that_of_all_weights_with_these_variances() -> None:
    layers = _layers()
    expected = sum(
        reference.kl_normal(mean.detach().numpy(), (a + b).detach().numpy())
        for mean, a, b in layers
    )
    ours = sum_kl_tied_normal(*zip(*layers, strict=True))
    assert ours.item() == pytest.approx(expected, rel=1e-13)


def test_kl_has_the_gradients_of_finite_differences() -> None:
    layers = _layers()[:2]

    def kl(*tensors: Tensor) -> Tensor:
        return sum_kl_tied_normal(tensors[:2], tensors[2:4], tensors[4:])

    arguments = tuple(t for kind in zip(*layers, strict=True) for t in kind)
    assert torch.autograd.gradcheck(kl, arguments)
    total = kl(*arguments)
    once = torch.autograd.grad(total, arguments, retain_graph=True)
    twice = torch.autograd.grad(2.0 * total, arguments)
    assert all(torch.equal(2.0 * a, b) for a, b in zip(once, twice, strict=True))


def test_kl_keeps_its_digits_next_to_zero_in_fp32() -> None:
    mean, outputs = torch.zeros(1000, 500), torch.full((1000, 1), 1e-3)
    inputs = torch.zeros(1, 500, requires_grad=True)
    kl = sum_kl_tied_normal([mean], [outputs], [inputs])
    # logvar² / 4 to leading order, of each weight
    assert kl.item() == pytest.approx(0.25e-6 * mean.numel(), rel=1e-3)
    kl.backward()
    assert torch.allclose(inputs.grad, torch.full((1, 500), 0.5 * 1000 * 1.0005e-3), rtol=1e-5)


def test_frozen_parts_get_no_gradient_and_bf16_is_widened() -> None:
    mean = torch.randn(4, 3).bfloat16().requires_grad_()
    outputs, inputs = torch.zeros(4, 1).bfloat16(), torch.zeros(1, 3, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        kl = sum_kl_tied_normal([mean], [outputs], [inputs])
    assert kl.dtype == torch.float32
    kl.backward()
    assert mean.grad.dtype == torch.bfloat16
    assert outputs.grad is None


@pytest.mark.parametrize(
    ("shape", "groups", "axis"),
    [((3, 4), 1, -1), ((2, 3, 4), 1, -1), ((4,), 1, -1), ((2, 4, 3, 2), 1, -3), ((2, 6, 3), 3, -2)],
)
@pytest.mark.parametrize("last", [False, True])
def test_samples_and_their_gradients(
    shape: tuple[int, ...], groups: int, axis: int, last: bool
) -> None:
    def laid_out(x: Tensor) -> Tensor:
        channels_last = last and x.dim() == 4
        return x.contiguous(memory_format=torch.channels_last) if channels_last else x

    torch.manual_seed(2)
    fewer = list(shape)
    fewer[axis] = groups
    outputs = shape[axis]
    mean, noise = (laid_out(torch.randn(shape, dtype=torch.float64)) for _ in range(2))
    shared = torch.rand(fewer, dtype=torch.float64) + 0.1
    factor, floor = (torch.rand(outputs, dtype=torch.float64) + 0.1 for _ in range(2))

    def sampled(mean: Tensor, shared: Tensor, factor: Tensor, floor: Tensor) -> Tensor:
        copies = mean.clone(), shared, factor, floor, noise.clone()
        return sample_tied_outputs(*copies, axis=axis)

    def by_hand(mean: Tensor, shared: Tensor, factor: Tensor, floor: Tensor) -> Tensor:
        along = [1] * len(shape)
        along[axis] = outputs
        spread = shared.repeat_interleave(outputs // groups, dim=axis)
        variance = floor.view(along) + factor.view(along) * spread
        return mean + variance.sqrt() * noise

    arguments = [t.requires_grad_() for t in (mean, shared, factor, floor)]
    ours, expected = sampled(*arguments), by_hand(*arguments)
    torch.testing.assert_close(ours, expected, rtol=1e-13, atol=1e-13)
    direction = laid_out(torch.randn(shape, dtype=torch.float64))
    got = torch.autograd.grad(ours, arguments, direction)
    wanted = torch.autograd.grad(expected, arguments, direction)
    torch.testing.assert_close(got, wanted, rtol=1e-11, atol=1e-12)


_PARTS = st.lists(st.floats(-30, 10), min_size=1, max_size=5)


@given(_PARTS, _PARTS, st.floats(-20, 0), st.floats(0, 15), st.floats(-8, 8))
def test_sums_come_within_bounds_however_they_are_split(
    outputs: list[float], inputs: list[float], low: float, span: float, shift: float
) -> None:
    a, b = (torch.tensor(part, dtype=torch.float64) for part in (outputs, inputs))
    before = a[:, None] + b
    other_a, other_b = a + shift, b - shift
    clamp_sum_(a, b, low, low + span)
    after = a[:, None] + b
    assert after.min() >= low - 1e-9
    assert after.max() <= low + span + 1e-9
    if before.min() >= low and before.max() <= low + span:
        assert torch.equal(after, before)
    clamp_sum_(other_a, other_b, low, low + span)
    torch.testing.assert_close(other_a[:, None] + other_b, after, rtol=0, atol=1e-9)


def test_only_what_is_extreme_moves() -> None:
    outputs, inputs = torch.tensor([-9.0, -8.0, -2.0]), torch.tensor([[-9.0, 0.0, 1.0]])
    clamp_sum_(outputs, inputs, -16.0, None)
    # 2 are missing; the entries are 7 and 10 apart
    assert outputs.tolist() == pytest.approx([-9.0 + 14 / 17, -8.0, -2.0])
    assert inputs.tolist()[0] == pytest.approx([-9.0 + 20 / 17, 0.0, 1.0])
    clamp_sum_(outputs, inputs, None, None)
    assert outputs[1] == -8.0
