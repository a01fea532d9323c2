"""Units that symbols have emptied leave the file, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from epigram import artifact, codec
from epigram.convert import CodedNetwork
from epigram.pipeline.contents import Shaped, contents_of
from epigram.pipeline.idle import idle_units
from epigram.records import CodedTensor
from epigram.structure import analyse

EXAMPLE = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def network(activation: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), activation, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 8), activation,
        nn.Linear(8, 3),
    )  # fmt: skip


def contents(net: nn.Module, *, steps: dict[str, float]):
    coded = CodedNetwork(net, steps=steps).eval()
    shaped = Shaped.of(
        net,
        dense_shapes=artifact.dense_shapes(net),
        dense_kept={},
        example=EXAMPLE,
        profile="named",
        recipe="r",
    )
    return coded, contents_of(coded, shaped)


def fine(net: nn.Module) -> dict[str, float]:
    return {name: 0.02 for name, _ in net.named_parameters()}


def emptied(net: nn.Sequential, *, bias: float) -> nn.Sequential:
    """Channel 2 is not read, channel 4 and unit 5 are made of nothing but a bias."""
    with torch.no_grad():
        net[4].weight[:, 18:27] = 0.0
        for layer, unit in ((net[0], 4), (net[4], 5)):
            layer.weight[unit] = 0.0
            layer.bias[unit] = bias
    return net


@pytest.mark.parametrize("bias", [0.0, -0.5])
def test_what_is_idle_leaves_and_the_reader_gets_the_same_network(bias, tmp_path):
    net = emptied(network(nn.ReLU()), bias=bias).eval()
    coded, said = contents(net, steps=fine(net))
    shapes = {tensor.name: tensor.shape for tensor in said.tensors}
    assert shapes["0.weight"][0] == 4 and shapes["4.weight"] == (7, 36)
    assert [int(edit.kept.sum()) for edit in said.edits] == [4, 7]
    artifact.save(said, tmp_path / "m.epg")
    small = artifact.load(tmp_path / "m.epg", into=network(nn.ReLU()))
    assert torch.allclose(small(EXAMPLE), coded(EXAMPLE), atol=1e-5)


def test_a_constant_that_is_read_stays():
    net = emptied(network(nn.ReLU()), bias=0.5).eval()
    _, said = contents(net, steps=fine(net))
    shapes = {tensor.name: tensor.shape for tensor in said.tensors}
    assert shapes["0.weight"][0] == 5 and shapes["4.weight"][0] == 8


def test_behind_a_sigmoid_zero_is_a_half_and_stays():
    net = emptied(network(nn.Sigmoid()), bias=0.0).eval()
    _, said = contents(net, steps=fine(net))
    assert said.tensors[0].shape[0] == 5


def test_one_unit_of_each_group_is_left_where_nothing_is_read():
    net = network(nn.ReLU()).eval()
    symbols = {name: np.zeros(p.shape, np.int32) for name, p in net.named_parameters()}
    keep = idle_units(net, analyse(net, EXAMPLE), symbols, EXAMPLE)
    assert [int(mask.sum()) for mask in keep.values()] == [1, 1]


def test_dead_inputs_are_named_only_where_that_is_smaller():
    net = network(nn.ReLU()).eval()
    with torch.no_grad():
        net[4].weight[:, ::2] = 0.0
    coded, said = contents(net, steps=fine(net))
    alternatives = [codec.size_estimate(said, "named").total]
    assert min(alternatives) <= len(codec.encode(said, profile="named")) + 40
    assert torch.equal(
        torch.from_numpy(said.tensors[2].symbols),
        torch.from_numpy(coded.parameters_by_name()["4.weight"].symbols()),
    )


def test_statistics_that_no_weight_takes_in_are_coded_too():
    """A normalisation before its activation's reader cannot be folded; its running statistics are told finely."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.BatchNorm2d(1), nn.ReLU(), nn.Conv2d(1, 6, 3), nn.Flatten())
    with torch.no_grad():
        net[0].running_mean.fill_(0.4321)
        net[0].running_var.fill_(3e-3)
    _, said = contents(net.eval(), steps=fine(net))
    told = {tensor.name: tensor for tensor in said.tensors}
    for name in ("0.running_mean", "0.running_var"):
        assert isinstance(told[name], CodedTensor)
        assert told[name].values() == pytest.approx(net.state_dict()[name].numpy(), rel=2.0**-6)
