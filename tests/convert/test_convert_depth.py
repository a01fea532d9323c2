"""One scale for a whole residual stream: drawn once, counted once, its gradient the sum over readers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from epigram.convert import Twin, bayesianize
from epigram.maths.kl import kl_log_uniform


class Block(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, inner, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(x + self.bn2(self.conv2(y)))


class ResNet(nn.Module):
    """A stream of five channels with four readers: three blocks and the head."""

    def __init__(self, blocks: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 5, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(5)
        self.blocks = nn.Sequential(*(Block(5, 4) for _ in range(blocks)))
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.bn(self.stem(x))))
        return self.head(x.mean((2, 3)))


@pytest.fixture(scope="module")
def converted() -> tuple[Twin, Tensor]:
    torch.manual_seed(0)
    network = ResNet().double()
    x = torch.randn(4, 2, 6, 6, dtype=torch.float64)
    twin = bayesianize(network, x)
    with torch.no_grad():
        for name in twin.names:
            twin.scale(name).z_mean.uniform_(0.5, 1.5)
            twin.scale(name).z_logvar.uniform_(-3.0, -1.0)
        for name, parameter in twin.named_parameters():
            if name.endswith("weight_logvar"):
                parameter.uniform_(-6.0, -3.0)
    return twin.train(), x


def naive(twin: Twin, x: Tensor, parameters: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Output and KL written out layer by layer, sharing no code with the layers; same noise."""
    drawn: dict[str, Tensor] = {}
    of = {name: f"scales.{twin.names.index(name)}." for name in twin.names}

    def z(name: str) -> Tensor:
        if name not in drawn:
            mean, logvar = (parameters[of[name] + leaf] for leaf in ("z_mean", "z_logvar"))
            drawn[name] = mean + (logvar / 2).exp() * torch.randn(len(x), len(mean), dtype=x.dtype)
        return drawn[name]

    def read(path: str, x: Tensor, scale: str | None) -> Tensor:
        mean, logvar = (parameters[f"network.{path}.weight_{leaf}"] for leaf in ("mean", "logvar"))
        if scale is not None:
            x = x * z(scale).reshape(len(x), -1, *[1] * (x.dim() - 2))
        if mean.dim() == 2:
            bias, spread = (
                parameters[f"network.{path}.bias_{leaf}"] for leaf in ("mean", "logvar")
            )
            centre = x @ mean.T + bias
            variance = x**2 @ logvar.exp().T + spread.exp()
        else:
            centre = F.conv2d(x, mean, padding=1)
            variance = F.conv2d(x**2, logvar.exp(), padding=1)
        return centre + (variance + 1e-8).sqrt() * torch.randn_like(centre)

    def norm(path: str, x: Tensor) -> Tensor:
        mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
        gamma, beta = (parameters[f"network.{path}.{leaf}"] for leaf in ("weight", "bias"))
        return (x - mean) / (var + 1e-5).sqrt() * gamma.view(-1, 1, 1) + beta.view(-1, 1, 1)

    h = F.relu(norm("bn", read("stem", x, None)))
    for i in range(3):
        y = F.relu(norm(f"blocks.{i}.bn1", read(f"blocks.{i}.conv1", h, "stem")))
        h = F.relu(h + norm(f"blocks.{i}.bn2", read(f"blocks.{i}.conv2", y, f"blocks.{i}.conv1")))
    out = read("head", h.mean((2, 3)), "stem")
    kl = torch.zeros((), dtype=torch.float64)
    for name, logvar in parameters.items():
        if name.endswith("_logvar") and not name.endswith("z_logvar"):
            mean = parameters[name.removesuffix("logvar") + "mean"]
            kl = kl + 0.5 * (logvar.exp() + mean**2 - logvar - 1).sum()
    for prefix in of.values():
        mean, logvar = (parameters[prefix + leaf] for leaf in ("z_mean", "z_logvar"))
        kl = kl + kl_log_uniform(logvar - torch.log(mean**2)).sum()
    return out, kl


def test_output_kl_and_every_gradient_are_those_of_the_naive_network(converted) -> None:
    twin, x = converted
    assert len(twin.names) == 4  # one for the stream, one inside of each block
    weights = torch.randn(4, 3, dtype=torch.float64)

    def loss(out: Tensor, kl: Tensor) -> Tensor:
        return (out * weights).sum() + kl / 1000

    torch.manual_seed(5)
    out = twin(x)
    kl = twin.kl_nats()
    twin.zero_grad()
    loss(out, kl).backward()
    copies = {n: p.detach().clone().requires_grad_() for n, p in twin.named_parameters()}
    torch.manual_seed(5)
    expected, expected_kl = naive(twin, x, copies)
    loss(expected, expected_kl).backward()
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(kl, expected_kl, rtol=1e-12, atol=0)
    for name, parameter in twin.named_parameters():
        torch.testing.assert_close(parameter.grad, copies[name].grad, rtol=1e-8, atol=1e-11)


def test_the_stream_s_scale_is_drawn_once_and_read_by_all(converted) -> None:
    twin, x = converted
    scale = twin.scale("stem")
    readers = [
        module
        for module in twin.network.modules()
        if any(use.scale is scale for use in getattr(module, "scale_uses", []))
    ]
    assert len(readers) == 4
    seen: list[Tensor] = []
    sample = scale.sample
    try:
        scale.sample = lambda batch, **more: seen.append(sample(batch, **more)) or seen[-1]
        twin(x)
        twin(x)
    finally:
        del scale.sample
    assert len(seen) == 2
    assert not torch.equal(*seen)
