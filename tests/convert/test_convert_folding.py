"""Folded normalisation: the same function, and nothing left to say of it but a shift."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from epigram.convert import CodedNetwork, fold_normalisation

X = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def trained(net: nn.Module) -> nn.Module:
    torch.manual_seed(2)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.2, 3.0)
                if module.affine:
                    module.weight.normal_()
                    module.bias.normal_()
    return net.eval()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_the_function_stays_and_the_normalisation_becomes_the_identity(bias, affine):
    net = trained(
        nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=bias),
            nn.BatchNorm2d(4, affine=affine),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3, groups=2, bias=bias),
            nn.BatchNorm2d(4, affine=affine, eps=1e-2),
            nn.Flatten(),
            nn.Linear(64, 6),
            nn.BatchNorm1d(6),
        )
    )
    folded = fold_normalisation(net, X)
    assert torch.allclose(folded.network(X), net(X), atol=1e-4)
    with_place = bias or affine
    assert folded.settled == (("1", "4", "7") if with_place else ("7",))
    norm = folded.network[7]
    assert norm.weight.unique().tolist() == [1.0] and norm.bias.unique().tolist() == [0.0]
    assert norm.running_mean.unique().tolist() == [0.0]
    assert "7.bias" in folded.fixed
    if affine:
        assert ("1.bias" in folded.fixed) == bias


def test_a_layer_that_others_read_too_keeps_its_normalisation():
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return y + self.norm(y)

    net = trained(Both())
    folded = fold_normalisation(net, X)
    assert folded.settled == () == folded.fixed
    assert torch.equal(folded.network(X), net(X))


def test_what_is_settled_stays_still_while_the_network_trains():
    net = trained(nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)))
    folded = fold_normalisation(net, X)
    coded = CodedNetwork(folded.network, fixed=folded.fixed, settled=folded.settled).train()
    coded(X).square().mean().backward()
    assert not coded.network[1].training and coded.network[0].training
    assert coded.network[1].running_mean.unique().tolist() == [0.0]
    parts = coded.parameters_by_name()
    assert parts["1.weight"].symbols().tolist() == [1] * 4 and parts["1.weight"].step == 1.0
    assert not parts["1.weight"].value.requires_grad and parts["1.bias"].value.requires_grad
