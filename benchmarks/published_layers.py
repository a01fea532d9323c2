"""The published group normal-Jeffreys layers, written from the formulas: what ours are timed against.

Louizos, Ullrich, Welling 2017, §4.1 and algorithm 1, as people write them down the first time: one
expression after the other, log-variances, a draw of z per example, z on the *inputs* of linear layers
and on the *output* filters of convolutions, std = sqrt(var), the KL term by term.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

_K1, _K2, _K3 = 0.63576, 1.87320, 1.48695  # Molchanov et al. 2017, eq. 14
_EPS = 1e-8
_START = -9.0


class _GroupLayer(nn.Module):
    """Parameters and KL of a layer with one scale per group."""

    def __init__(self, plain: nn.Linear | nn.Conv2d, groups: int) -> None:
        super().__init__()
        assert plain.bias is not None
        self.z_mean = nn.Parameter(1.0 + 0.01 * torch.randn(groups))
        self.z_logvar = nn.Parameter(_START + 0.01 * torch.randn(groups))
        self.weight_mean = nn.Parameter(plain.weight.detach().clone())
        self.weight_logvar = nn.Parameter(_START + 0.01 * torch.randn_like(plain.weight))
        self.bias_mean = nn.Parameter(plain.bias.detach().clone())
        self.bias_logvar = nn.Parameter(_START + 0.01 * torch.randn_like(plain.bias))

    def draw_z(self, batch: int) -> Float[Tensor, "batch groups"]:
        """One draw per example."""
        mean = self.z_mean.repeat(batch, 1)
        std = torch.exp(self.z_logvar.repeat(batch, 1)).sqrt()
        return mean + std * torch.randn_like(std)

    def kl_nats(self) -> Float[Tensor, ""]:
        """KL of scales, weights and biases."""
        log_alpha = self.z_logvar - torch.log(self.z_mean.pow(2) + _EPS)
        kl = -torch.sum(
            _K1 * torch.sigmoid(_K2 + _K3 * log_alpha) - 0.5 * F.softplus(-log_alpha) - _K1
        )
        for mean, logvar in (
            (self.weight_mean, self.weight_logvar),
            (self.bias_mean, self.bias_logvar),
        ):
            kl = kl + torch.sum(-0.5 * logvar + 0.5 * (torch.exp(logvar) + mean.pow(2)) - 0.5)
        return kl


def _sampled(mean: Tensor, variance: Tensor) -> Tensor:
    std = torch.sqrt(variance)
    return mean + std * torch.randn_like(std)


class GroupLinear(_GroupLayer):
    """A linear layer with a scale per input."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Linear(inputs, outputs), inputs)

    def forward(self, x: Float[Tensor, "batch in"]) -> Float[Tensor, "batch out"]:
        """Sampled activations."""
        xz = x * self.draw_z(x.shape[0])
        mean = F.linear(xz, self.weight_mean, self.bias_mean)
        variance = F.linear(xz.pow(2), torch.exp(self.weight_logvar), torch.exp(self.bias_logvar))
        return _sampled(mean, variance)


class GroupConv2d(_GroupLayer):
    """A convolution with a scale per output filter."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int) -> None:
        super().__init__(nn.Conv2d(inputs, outputs, kernel_size), outputs)

    def forward(self, x: Float[Tensor, "batch in h w"]) -> Float[Tensor, "batch out h2 w2"]:
        """Sampled activations."""
        z = self.draw_z(x.shape[0])[:, :, None, None]
        mean = F.conv2d(x, self.weight_mean, self.bias_mean)
        variance = F.conv2d(x.pow(2), torch.exp(self.weight_logvar), torch.exp(self.bias_logvar))
        return _sampled(mean * z, variance * z.pow(2))


class Published(nn.Module):
    """A network of these layers."""

    def kl_nats(self) -> Float[Tensor, ""]:
        """KL of all layers, nats."""
        layers = [module for module in self.modules() if isinstance(module, _GroupLayer)]
        return torch.stack([layer.kl_nats() for layer in layers]).sum()


class LeNet300100(Published):
    """784-300-100-10."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = GroupLinear(784, 300)
        self.fc2 = GroupLinear(300, 100)
        self.fc3 = GroupLinear(100, 10)

    def forward(self, x: Float[Tensor, "batch 1 28 28"]) -> Float[Tensor, "batch 10"]:
        """Sampled class scores."""
        x = F.relu(self.fc1(torch.flatten(x, 1)))
        logits: Tensor = self.fc3(F.relu(self.fc2(x)))
        return logits


class LeNet5Caffe(Published):
    """20 and 50 filters of 5x5, 500 hidden units, 10 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = GroupConv2d(1, 20, 5)
        self.conv2 = GroupConv2d(20, 50, 5)
        self.fc1 = GroupLinear(800, 500)
        self.fc2 = GroupLinear(500, 10)

    def forward(self, x: Float[Tensor, "batch 1 28 28"]) -> Float[Tensor, "batch 10"]:
        """Sampled class scores."""
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        logits: Tensor = self.fc2(F.relu(self.fc1(torch.flatten(x, 1))))
        return logits
