"""The networks of the literature: sizes as published, and equal where they should be."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from epigram.recipes.networks import LeNet5Caffe, LeNet300100, LeNet300100Conv


@pytest.mark.parametrize(
    ("network", "parameters"),
    [(LeNet300100, 266_610), (LeNet300100Conv, 266_610), (LeNet5Caffe, 431_080)],
)
def test_parameters_and_outputs(network: type[nn.Module], parameters: int) -> None:
    model = network()
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert model(torch.zeros(3, 1, 28, 28)).shape == (3, 10)


def test_linear_and_convolutional_lenet_300_100_are_one_function() -> None:
    torch.manual_seed(1)
    linear = LeNet300100()
    torch.manual_seed(1)
    convolutional = LeNet300100Conv()
    for (name, weight), (other, kernel) in zip(
        linear.named_parameters(), convolutional.named_parameters(), strict=True
    ):
        assert name == other
        assert torch.equal(weight.reshape(-1), kernel.reshape(-1))  # the same start, too
    x = torch.randn(4, 1, 28, 28).double()
    torch.testing.assert_close(
        linear.double()(x), convolutional.double()(x), rtol=1e-12, atol=1e-14
    )


def test_lenet_5_is_spelled_out() -> None:
    """The same from functional calls: convolution, pooling and ReLU in Caffe's order."""
    model = LeNet5Caffe().double()
    x = torch.randn(2, 1, 28, 28).double()
    w = model.state_dict()
    assert [tuple(w[f"{layer}.weight"].shape) for layer in ("conv1", "conv2", "fc1", "fc2")] == [
        (20, 1, 5, 5), (50, 20, 5, 5), (500, 800), (10, 500),
    ]  # fmt: skip
    patches = F.unfold(x, 5)
    maps = (w["conv1.weight"].view(20, 25) @ patches).view(2, 20, 24, 24)
    maps = (maps + w["conv1.bias"].view(-1, 1, 1)).unfold(2, 2, 2).unfold(3, 2, 2)
    maps = maps.amax(dim=(-2, -1)).relu()
    patches = F.unfold(maps, 5)
    maps = (w["conv2.weight"].view(50, 500) @ patches).view(2, 50, 8, 8)
    maps = (maps + w["conv2.bias"].view(-1, 1, 1)).unfold(2, 2, 2).unfold(3, 2, 2)
    hidden = maps.amax(dim=(-2, -1)).relu().reshape(2, 800)
    hidden = (hidden @ w["fc1.weight"].T + w["fc1.bias"]).relu()
    expected = hidden @ w["fc2.weight"].T + w["fc2.bias"]
    torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-14)
