"""The residual networks are those of others, and all their units can go."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from epigram.recipes.residual import CifarResNet, CifarResNet50, channels_first
from epigram.structure import analyse, mask_units, remove_units, slice_plan, verify_removal

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def stirred(model: nn.Module) -> nn.Module:
    """No two channels alike, in double precision."""
    generator = torch.Generator().manual_seed(5)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and tensor.dim() == 1:
            noise = torch.rand(tensor.shape, generator=generator)
            tensor.copy_(noise + (0.5 if name.endswith(("var", "weight")) else 0.0))
    return model.double().eval()


def spelled_out(w: dict[str, Tensor], x: Tensor, blocks: int) -> Tensor:
    """The forward pass of akamaster's networks from functions, zeros by padding as he has them."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var, weight, bias = (
            w[f"{name}.{part}"].view(1, -1, 1, 1)
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    x = norm(F.conv2d(x, w["conv1.weight"], padding=1), "bn1").relu()
    for stage in (1, 2, 3):
        for block in range(blocks):
            at, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = F.conv2d(x, w[f"{at}.conv1.weight"], stride=stride, padding=1)
            y = norm(y, f"{at}.bn1").relu()
            y = norm(F.conv2d(y, w[f"{at}.conv2.weight"], padding=1), f"{at}.bn2")
            if stride == 2:
                quarter = y.shape[1] // 4
                x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, quarter, quarter))
            x = (x + y).relu()
    return x.mean(dim=(2, 3)) @ w["linear.weight"].T + w["linear.bias"]


@pytest.mark.parametrize("blocks", [1, 3])
def test_the_cifar_resnets_compute_what_akamasters_do(blocks: int) -> None:
    model = stirred(CifarResNet(blocks))
    expected = spelled_out(model.state_dict(), IMAGES.double(), blocks)
    torch.testing.assert_close(model(IMAGES.double()), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("blocks", [1, 2])
def test_channels_first_is_the_same_function(blocks: int) -> None:
    around, after = stirred(CifarResNet(blocks)), CifarResNet(blocks, zeros="after").double().eval()
    x, before = IMAGES.double(), {n: t.clone() for n, t in around.state_dict().items()}
    after.load_state_dict(channels_first(around.state_dict()))
    torch.testing.assert_close(after(x), around(x), rtol=1e-10, atol=1e-10)
    assert all(torch.equal(t, before[n]) for n, t in around.state_dict().items())
    after.load_state_dict(around.state_dict())
    assert not torch.allclose(after(x), around(x))  # the order does matter


def test_parameters_and_names() -> None:
    sizes = [sum(p.numel() for p in CifarResNet(blocks).parameters()) for blocks in (3, 9)]
    assert sizes == [269_722, 853_018]
    parts = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    norm = {f"bn{i}.{part}" for i in (1, 2) for part in parts}
    block = norm | {"conv1.weight", "conv2.weight"}
    expected = {f"layer{stage}.0.{name}" for stage in (1, 2, 3) for name in block}
    expected |= {"conv1.weight", "linear.weight", "linear.bias"} | {f"bn1.{part}" for part in parts}
    assert set(CifarResNet(1).state_dict()) == expected


def test_resnet50_is_torchvisions_with_another_stem() -> None:
    ours, theirs = CifarResNet50().eval(), torchvision.models.resnet50(num_classes=10).eval()
    theirs.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    theirs.maxpool = nn.Identity()
    theirs.load_state_dict(ours.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(ours(IMAGES), theirs(IMAGES), rtol=1e-4, atol=1e-4)
    assert sum(p.numel() for p in CifarResNet50(width=0.25).parameters()) < 1_500_000


def test_all_channels_of_the_stream_can_go_where_zeros_come_after() -> None:
    structure = analyse(CifarResNet(1, zeros="after"), IMAGES)
    units = {group.name: group.units for group in structure.groups}
    inner = {"layer1.0.conv1": 16, "layer2.0.conv1": 32, "layer3.0.conv1": 64}
    assert units == inner | {"conv1": 16, "layer2.0.conv2": 16, "layer3.0.conv2": 32}
    assert not structure.left_whole


def test_channels_that_meet_zeros_stay_where_zeros_lie_around() -> None:
    structure = analyse(CifarResNet(1), IMAGES)
    units = {group.name: group.units for group in structure.groups}
    assert units.keys() >= {"layer1.0.conv1", "layer2.0.conv1", "layer3.0.conv1"}
    assert {left.where for left in structure.left_whole} >= {"layer2.0.conv2", "layer3.0.conv2"}


@pytest.mark.parametrize(
    "network",
    [
        CifarResNet(1),
        CifarResNet(3, zeros="after"),
        pytest.param(CifarResNet(9, zeros="after"), marks=pytest.mark.slow),
        CifarResNet50(width=1 / 16),
    ],
    ids=["resnet8-around", "resnet20", "resnet56", "resnet50"],
)
def test_three_units_in_ten_can_go(network: nn.Module) -> None:
    model = stirred(network)
    structure = analyse(model, IMAGES.double())
    random = np.random.RandomState(0)
    keep = {
        group.name: random.permutation(group.units) >= 0.3 * group.units
        for group in structure.groups
    }
    small = remove_units(model, slice_plan(structure, keep))
    verify_removal(small, mask_units(model, structure, keep), IMAGES.double())
    before, after = (sum(p.numel() for p in net.parameters()) for net in (model, small))
    assert after < 0.7 * before
    small.train()(IMAGES.double()).sum().backward()  # it trains on
